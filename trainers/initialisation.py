"""Initial weights by name (lecture, p. 19 and 55-58), drawn statelessly from a trial's seed."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn

from trainers.config import InitConfig
from trainers.models.residual import fixup_gains

WEIGHT_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
RESET_METHODS = ("reset_parameters", "_reset_parameters")
"""How torch's modules start themselves; attention layers have the second name."""

_PURPOSE = int.from_bytes(b"init", "big")
"""Second word of the generator's key, so that no other noise of the trial is the same."""


def initialise(model: nn.Module, init: InitConfig, activation: str, seed: int) -> None:
    """Overwrite the model's parameters and buffers with a trial's initial ones, in place.

    The draw depends on the seed and on the tensors' order and shapes alone: it is made in float64
    from a generator of its own, then cast, so that dtype and device change nothing but the
    rounding. Linear and convolution layers, and modules that have `weight`, `bias` and
    `weight_fans` = (fan_in, fan_out), follow `init.kind`. Normalisations and other modules start by
    their own `reset_parameters`, called in float32 on the CPU. Parameters that belong to no such
    module keep what the factory gave them, which is the same for every seed. `init.scale`
    multiplies the weights, not the biases. Kind `fixup` is He with the gains of `fixup_gains`.

    Args:
        model: any module, on any device.
        init: the section `init`.
        activation: decides kind `auto`.
        seed: the trial's, at least 0; taken modulo 2^64.

    """
    kind = init.kind if init.kind != "auto" else automatic_kind(activation)[0]
    gains = fixup_gains(model) if kind == "fixup" else {}
    kind = "he" if kind == "fixup" else kind
    for index, module in enumerate(model.modules()):
        if isinstance(module, WEIGHT_LAYERS) or hasattr(module, "weight_fans"):
            scale = init.scale * gains.get(module, 1.0)
            _initialise_layer(module, kind, init.constant, scale, _generator(seed, index))
            continue
        for method in RESET_METHODS:
            if hasattr(module, method):
                _reset_by_itself(module, method, _generator(seed, index))
                break


def automatic_kind(activation: str) -> tuple[str, str]:
    """Return the kind that `auto` stands for, and why (lecture, p. 58)."""
    if activation in ("relu", "elu"):
        return "he", f"{activation} passes about half of its inputs, so He doubles their variance"
    return "xavier", f"{activation} is about linear near 0, so Xavier keeps the variance both ways"


def _layer_fans(layer: nn.Module) -> tuple[int, int]:
    """Return (fan_in, fan_out): what the layer says itself, or what its weight's shape says."""
    own: tuple[int, int] | None = getattr(layer, "weight_fans", None)
    assert isinstance(layer.weight, Tensor)
    return fans(layer.weight) if own is None else own


def fans(weight: Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight [out, in, *kernel]."""
    receptive_field = math.prod(weight.shape[2:])
    return weight.shape[1] * receptive_field, weight.shape[0] * receptive_field


def draw_weight(
    shape: torch.Size,
    kind: str,
    constant: float,
    generator: np.random.Generator,
    in_and_out: tuple[int, int] | None = None,
) -> Tensor:
    """Draw a weight in float64: [out, in, *kernel], or any shape with its (fan_in, fan_out).

    | kind                | distribution                                 | variance               |
    |---------------------|----------------------------------------------|------------------------|
    | `uniform`, `torch`  | U(-1/sqrt(fan_in), 1/sqrt(fan_in))           | 1 / (3 fan_in)         |
    | `xavier`            | U(-b, b), b = sqrt(6 / (fan_in + fan_out))   | 2 / (fan_in + fan_out) |
    | `he`                | N(0, 2 / fan_in)                             | 2 / fan_in             |
    | `too_small`         | N(0, (0.1)^2 / fan_in)                       | 0.01 / fan_in          |
    | `too_large`         | N(0, 10^2 / fan_in)                          | 100 / fan_in           |

    Sources: lecture, p. 19 (uniform); Glorot & Bengio, 2010; He et al., 2015. The factors 0.1
    and 10 on 1/sqrt(fan_in) are those of the lecture's signal test (p. 55-57).
    """
    if kind == "zeros":
        return torch.zeros(shape, dtype=torch.float64)
    if kind == "constant":
        return torch.full(shape, constant, dtype=torch.float64)
    fan_in, fan_out = in_and_out or fans(torch.empty(shape, device="meta"))
    if kind in ("uniform", "torch"):
        bound = 1 / math.sqrt(fan_in)
        return torch.from_numpy(generator.uniform(-bound, bound, size=tuple(shape)))
    if kind == "xavier":
        bound = math.sqrt(6 / (fan_in + fan_out))
        return torch.from_numpy(generator.uniform(-bound, bound, size=tuple(shape)))
    gain = {"he": math.sqrt(2), "too_small": 0.1, "too_large": 10.0}[kind]
    std = gain / math.sqrt(fan_in)
    return torch.from_numpy(std * generator.standard_normal(size=tuple(shape)))


def _initialise_layer(
    layer: nn.Module, kind: str, constant: float, scale: float, generator: np.random.Generator
) -> None:
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    own_fans = _layer_fans(layer)
    with torch.no_grad():
        weight.copy_(scale * draw_weight(weight.shape, kind, constant, generator, own_fans))
        if bias is None:
            return
        assert isinstance(bias, Tensor)
        bias.zero_()
        if kind in ("uniform", "torch"):  # torch draws biases with the bound of the weights
            bound = 1 / math.sqrt(own_fans[0])
            bias.copy_(torch.from_numpy(generator.uniform(-bound, bound, size=tuple(bias.shape))))


def _reset_by_itself(module: nn.Module, method: str, generator: np.random.Generator) -> None:
    """Call a module's own reset on a CPU copy, with torch's generator lent and given back."""
    twin = copy.deepcopy(module).float().cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(generator.integers(2**63)))
        getattr(twin, method)()
    module.load_state_dict(twin.state_dict())


def _generator(seed: int, index: int) -> np.random.Generator:
    """Return the generator of one module: key (seed, purpose), counter's high word = index."""
    key = np.array([seed % 2**64, _PURPOSE], dtype=np.uint64)
    counter = np.array([0, 0, 0, index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
