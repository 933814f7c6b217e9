"""Residual networks, with and without their skip connections, and Fixup's parts of them.

He et al. (2015), section 4.2, for images: three stages of width, 2 width and 4 width channels;
the lecture's p. 35 shows what the skip connections do to the loss landscape. Zhang, Dauphin & Ma,
"Fixup initialization" (ICLR 2019), for depth without normalisation (lecture, p. 58).
Fixup's scalars learn at a tenth of the rate, as in its authors' code (bias and scale: lr / 10).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainers.activations import activation_module
from trainers.config import Activation
from trainers.models.dropout import LaneDropout
from trainers.models.mlp import BatchNormPlace
from trainers.models.spatial import check_halvings, spatial_layers

LAYERS_PER_BRANCH = 2
NUM_STAGES = 3
SCALAR_NAMES = ("fixup_bias", "fixup_scale")
"""Parameters so called, whatever their module, are updated by `SCALAR_RATE` of what others are."""
SCALAR_RATE = 0.1


class ScalarBias(nn.Module):
    """Adds one learnt number, 0 at the start, to everything (Fixup's third rule)."""

    def __init__(self) -> None:
        super().__init__()
        self.fixup_bias = nn.Parameter(torch.zeros(1))

    def reset_parameters(self) -> None:
        """Start again at 0."""
        nn.init.zeros_(self.fixup_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return x + bias, in any shape."""
        return x + self.fixup_bias


class ScalarScale(nn.Module):
    """Multiplies everything by one learnt number, 1 at the start (Fixup's third rule)."""

    def __init__(self) -> None:
        super().__init__()
        self.fixup_scale = nn.Parameter(torch.ones(1))

    def reset_parameters(self) -> None:
        """Start again at 1."""
        nn.init.ones_(self.fixup_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return x * scale, in any shape."""
        return x * self.fixup_scale


class Shortcut(nn.Module):
    """The skip connection without parameters: every second position, new channels 0."""

    def __init__(self, new_channels: int, stride: int, num_dims: int) -> None:
        super().__init__()
        self.new_channels, self.stride, self.num_dims = new_channels, stride, num_dims

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C + new_channels, *sizes / stride] for x [B, C, *sizes]."""
        step = self.stride
        x = x[..., ::step] if self.num_dims == 1 else x[..., ::step, ::step]
        return nn.functional.pad(x, (*[0, 0] * self.num_dims, 0, self.new_channels))


class ResidualBlock(nn.Module):
    """act(shortcut(x) + branch(x)), where the branch is weights, act, dropout, weights.

    With `norms` each weight layer is followed by one. With `scalars` a scalar bias stands before
    each weight layer, the inner activation and the sum, and a multiplier after the branch.
    Without `skip` the branch's output goes on alone, through the same layers.
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        *,
        norms: tuple[nn.Module, nn.Module] | None,
        activation: Activation,
        dropout: float,
        shortcut: nn.Module | None,
        scalars: bool,
    ) -> None:
        super().__init__()
        none = nn.Identity()
        self.before_first = ScalarBias() if scalars else none
        self.first = first
        self.norm_first = norms[0] if norms else none
        self.before_act = ScalarBias() if scalars else none
        self.inner_act = activation_module(activation)
        self.dropout = LaneDropout(dropout)
        self.before_second = ScalarBias() if scalars else none
        self.second = second
        self.norm_second = norms[1] if norms else none
        self.scale = ScalarScale() if scalars else none
        self.before_sum = ScalarBias() if scalars else none
        self.shortcut = shortcut
        self.act = activation_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for x [B, features] or [B, channels, *sizes]."""
        branch = self.norm_first(self.first(self.before_first(x)))
        branch = self.dropout(self.inner_act(self.before_act(branch)))
        branch = self.norm_second(self.second(self.before_second(branch)))
        branch = self.before_sum(self.scale(branch))
        if self.shortcut is not None:
            branch = branch + self.shortcut(x)
        return self.act(branch)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


class ResMlp(nn.Module):
    """A linear layer, `depth` residual blocks of two `width`-wide layers, a linear head.

    That is 2 * depth + 2 weight layers: depth 54 has 110. Weight layers have biases unless
    normalisation or scalars do their work.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        depth: int = 2,
        width: int = 128,
        activation: Activation = "relu",
        dropout: float = 0.0,
        batch_norm: BatchNormPlace = "none",
        bn_momentum: float = 0.1,
        skip: bool = True,
        scalars: bool = False,
    ) -> None:
        super().__init__()
        normalises = batch_norm != "none"
        bias = not (normalises or scalars)

        def norm() -> nn.Module:
            return nn.BatchNorm1d(width, momentum=bn_momentum)

        self.stem = _stem(
            nn.Linear(math.prod(input_shape), width, bias=bias),
            norm() if normalises else None,
            activation,
            scalars,
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(
                nn.Linear(width, width, bias=bias),
                nn.Linear(width, width, bias=bias),
                norms=(norm(), norm()) if normalises else None,
                activation=activation,
                dropout=dropout,
                shortcut=nn.Identity() if skip else None,
                scalars=scalars,
            )
            for _ in range(depth)
        )
        self.before_head = ScalarBias() if scalars else nn.Identity()
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or numbers [B, num_outputs] for x [B, *input_shape]."""
        x = self.stem(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        return self.head(self.before_head(x))  # type: ignore[no-any-return]


class ResCnn(nn.Module):
    """The CIFAR-style ResNet: a convolution, three stages of `depth` blocks, mean, linear head.

    Stages have width, 2 width and 4 width channels; the second and the third begin with stride
    2. That is 6 * depth + 2 weight layers: depth 3 has 20, 9 has 56, 18 has 110. Signals get 1-D
    convolutions.

    Raises:
        ConfigError: for flat inputs, and for inputs that cannot be halved twice.

    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        depth: int = 2,
        width: int = 16,
        activation: Activation = "relu",
        dropout: float = 0.0,
        batch_norm: BatchNormPlace = "none",
        bn_momentum: float = 0.1,
        skip: bool = True,
        scalars: bool = False,
    ) -> None:
        super().__init__()
        layers = spatial_layers("rescnn", input_shape)
        check_halvings("rescnn", input_shape, NUM_STAGES - 1, "use `model.kind: cnn` or `resmlp`")
        num_dims = len(input_shape) - 1
        normalises = batch_norm != "none"
        bias = not (normalises or scalars)

        def conv(channels: int, out_channels: int, stride: int = 1) -> nn.Module:
            return layers.conv(channels, out_channels, 3, stride=stride, padding=1, bias=bias)

        def norm(channels: int) -> nn.Module:
            return layers.norm(channels, momentum=bn_momentum)

        self.stem = _stem(
            conv(input_shape[0], width), norm(width) if normalises else None, activation, scalars
        )
        self.blocks = nn.ModuleList()
        channels = width
        for stage in range(NUM_STAGES):
            out_channels = width * 2**stage
            for index in range(depth):
                stride = 2 if stage and index == 0 else 1
                changes = stride > 1 or channels != out_channels
                shortcut = (
                    Shortcut(out_channels - channels, stride, num_dims)
                    if changes
                    else nn.Identity()
                )
                norms = (norm(out_channels), norm(out_channels)) if normalises else None
                self.blocks.append(
                    ResidualBlock(
                        conv(channels, out_channels, stride),
                        conv(out_channels, out_channels),
                        norms=norms,
                        activation=activation,
                        dropout=dropout,
                        shortcut=shortcut if skip else None,
                        scalars=scalars,
                    )
                )
                channels = out_channels
        self.before_head = ScalarBias() if scalars else nn.Identity()
        self.head = nn.Linear(channels, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or numbers [B, num_outputs] for x [B, channels, *sizes]."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.before_head(x.flatten(2).mean(2)))  # type: ignore[no-any-return]


def fixup_gains(model: nn.Module) -> dict[nn.Module, float]:
    """Return by what Fixup multiplies He weights, for the layers where that is not 1.

    With L branches of m = 2 layers each: 0 for the head and each branch's last layer, and
    L^(-1/(2m-2)) = L^(-1/2) for the others inside branches.
    """
    blocks = [part for part in model.modules() if isinstance(part, ResidualBlock)]
    gains: dict[nn.Module, float] = {}
    for block in blocks:
        gains[block.first] = len(blocks) ** (-1 / (2 * LAYERS_PER_BRANCH - 2))
        gains[block.second] = 0.0
    head = getattr(model, "head", None)
    if isinstance(head, nn.Module):
        gains[head] = 0.0
    return gains


def _stem(
    weights: nn.Module, norm: nn.Module | None, activation: Activation, scalars: bool
) -> nn.Sequential:
    parts = [weights, norm, ScalarBias() if scalars else None, activation_module(activation)]
    return nn.Sequential(*(part for part in parts if part is not None))
