"""Does a stacked tier compute what each module alone would? One step in float64 decides.

vmap over modules is silently wrong for tied weights cut apart, `padding_idx`, attributes that are
no tensors, buffers replaced in `forward`, and shared randomness. None of these can be listed
completely, so they are looked for by effect: two lanes with different seeds and hyperparameters
take one step, and losses, gradients, buffers and outputs are compared with ordinary autograd
through each module alone. What one batch may miss is looked for by rule as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.initialisation import initialise
from trainers.lanes.engine import Engine
from trainers.lanes.prepared import dropouts_of, masks_from, prepare
from trainers.losses import loss_function, resolve_loss
from trainers.models import build_model
from trainers.models.auxiliary import layers_with_auxiliary_loss, take_auxiliary_loss

_NUM_ROWS = 16
_RELATIVE = 1e-8
_ABSOLUTE = 1e-10
_SEEDS = (11, 12)

MakeEngine = Callable[[nn.Module, Sequence[TrialConfig], Dataset], Engine]


@dataclass(frozen=True)
class Verdict:
    """Whether the tier may be used, and why or why not."""

    equal: bool
    reason: str


def probe(make: MakeEngine, configs: Sequence[TrialConfig], dataset: Dataset) -> Verdict:
    """Compare a tier with the module alone.

    Args:
        make: Builds the tier's engine from (template, configs, dataset).
        configs: Of one signature; two that differ in their models' numbers are picked, or made.
        dataset: On the CPU; the first rows are used.
    """
    pair = [_in_float64(config) for config in _two_different(configs)]
    modules = [_module(config, seed, dataset) for config, seed in zip(pair, _SEEDS, strict=True)]
    by_rule = _broken_by_rule(modules[0])
    if by_rule:
        return Verdict(False, by_rule)
    try:
        differences = _compare(make, pair, modules, dataset)
    except Exception as error:  # a model can fail under vmap in any way; all of them mean "no"
        first_line = str(error).strip().partition("\n")[0][:200]
        return Verdict(False, f"the probe raised {type(error).__name__}: {first_line}")
    if differences:
        return Verdict(False, "differs from the module alone in " + "; ".join(differences[:3]))
    return Verdict(True, "one float64 step of two lanes equals each module alone")


def _two_different(configs: Sequence[TrialConfig]) -> list[TrialConfig]:
    """Return two configurations whose models differ in every number a lane may choose."""
    first = configs[0]
    dropout = first.model.dropout
    other = {"model.dropout": 0.5 if dropout == 0 else dropout / 2}
    if first.model.bn_decay is None:
        other["model.bn_momentum"] = first.model.running_momentum / 2
    else:
        other["model.bn_decay"] = first.model.bn_decay / 2
    if first.model.factory is not None:
        # A factory takes the keys that its spec wrote down, and no others.
        written = first.model.model_fields_set
        other = {path: v for path, v in other.items() if path.partition(".")[2] in written}
    return [first, first.with_values(other)]


def _in_float64(config: TrialConfig) -> TrialConfig:
    return config.with_values({"train.precision": "float64"})


def _module(config: TrialConfig, seed: int, dataset: Dataset) -> nn.Module:
    """Return a module alone, with weights that are nowhere zero or symmetric."""
    module = build_model(config.model, dataset.input_shape, dataset.num_outputs).double()
    init = config.init.model_copy(update={"kind": "torch", "scale": 1.0})
    initialise(module, init, config.model.initial_activation, seed)
    return module


def _broken_by_rule(module: nn.Module) -> str:
    """Name a module that is known to go wrong though one batch may not show it, else ''."""
    for name, part in module.named_modules():
        if isinstance(part, nn.Embedding | nn.EmbeddingBag):
            if part.padding_idx is not None:
                return f"`{name}` has a padding_idx, whose gradient vmap has cleared in lane 0 only"
            if part.max_norm is not None:
                return f"`{name}` has a max_norm, which rewrites weights in forward"
    return ""


def _compare(
    make: MakeEngine,
    configs: Sequence[TrialConfig],
    modules: Sequence[nn.Module],
    dataset: Dataset,
) -> list[str]:
    """Return what differs, worst first by order of computation."""
    dataset = replace(
        dataset.to("cpu", torch.float64),
        x_train=dataset.x_train[:_NUM_ROWS].cpu().double(),
    )
    template = build_model(configs[0].model, dataset.input_shape, dataset.num_outputs).double()
    engine = make(template, configs, dataset)
    params = torch.zeros(2, engine.canonical.size, dtype=torch.float64)
    for lane, module in enumerate(modules):
        engine.canonical.read(module, params[lane])
    params = engine.from_canonical(params)
    grads = torch.zeros_like(params)
    buffers = {
        name: torch.stack([module.get_buffer(name) for module in modules])
        for name, _ in modules[0].named_buffers()
    }
    smoothing = [config.regularisation.label_smoothing for config in configs]
    bound = engine.bind(params, grads, buffers, [config.model for config in configs], smoothing)
    x, y = dataset.x_train, dataset.y_train[:_NUM_ROWS]
    if y.is_floating_point():
        y = y.double()
    masks = _masks(engine, configs, len(x))
    inputs = torch.stack([engine.inputs(x), engine.inputs(x.flip(0))])
    targets = torch.stack([engine.targets(y), engine.targets(y.flip(0))])
    losses = bound.gradients(inputs, targets, masks)
    gradients = engine.canonical.views(engine.to_canonical(grads))
    found = []
    for lane, (module, config) in enumerate(zip(modules, configs, strict=True)):
        own = (x, y) if lane == 0 else (x.flip(0), y.flip(0))
        kind = resolve_loss(config.train.loss, dataset.task)
        alone = _alone(module, own, kind, smoothing[lane], [mask[lane] for mask in masks])
        found += _differences(f"loss of lane {lane}", losses[lane], alone)
        for name, parameter in module.named_parameters():
            slope = parameter.grad if parameter.grad is not None else torch.zeros_like(parameter)
            found += _differences(
                f"gradient of `{name}` in lane {lane}", gradients[name][lane], slope
            )
        for name, buffer in module.named_buffers():
            found += _differences(f"buffer `{name}` of lane {lane}", buffers[name][lane], buffer)
    outputs = bound.outputs(engine.inputs(x)).clone()
    for lane, module in enumerate(modules):
        module.eval()
        with torch.no_grad():
            found += _differences(f"outputs of lane {lane}", outputs[lane], module(x))
    return found


def _alone(
    module: nn.Module,
    rows: tuple[Tensor, Tensor],
    kind: str,
    smoothing: float,
    masks: Sequence[Tensor],
) -> Tensor:
    """Take the step through ordinary autograd: gradients are left in the module."""
    x, y = rows
    module = prepare(module, x[:2]).module.train()
    with torch.enable_grad(), masks_from(dropouts_of(module), masks):
        loss = loss_function(kind)(module(x), y, 0.0 if y.is_floating_point() else smoothing)  # type: ignore[arg-type]
        added = take_auxiliary_loss(layers_with_auxiliary_loss(module))
        loss = loss if added is None else loss + added
        loss.backward()  # type: ignore[no-untyped-call]
    return loss.detach()


def _masks(engine: Engine, configs: Sequence[TrialConfig], num_rows: int) -> list[Tensor]:
    """Return masks [2, B, *shape] for each dropout, at each lane's own rate."""
    rates = [engine.dropout_rates(config.model) for config in configs]
    generator = torch.Generator().manual_seed(0)
    masks = []
    for index, shape in enumerate(engine.dropout_shapes):
        noise = torch.rand((2, num_rows, *shape), generator=generator, dtype=torch.float64)
        keep = 1 - torch.tensor([own[index] for own in rates], dtype=torch.float64)
        keep = keep.view(2, *[1] * (noise.dim() - 1))
        masks.append((noise < keep).double() / keep)
    return masks


def _differences(what: str, found: Tensor, expected: Tensor) -> list[str]:
    found, expected = found.detach().double(), expected.detach().double()
    if torch.allclose(found, expected, rtol=_RELATIVE, atol=_ABSOLUTE):
        return []
    gap = (found - expected).abs().max().item()
    return [f"{what} by {gap:.3g}"]
