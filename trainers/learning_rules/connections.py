"""How a layer's units are wired to its inputs, and what each kind of layer computes of it.

Every rule needs three products: z = W x forwards, delta W backwards, delta^T x for the update. A
locally connected layer is many small dense ones, a group per position, and a convolution is one
small dense layer that sees every position as a row; the Hebbian rules see them so.

Shapes: W lanes, B rows, `in` and `out` the layer's inputs and units, flat as `flatten(1)` makes
them (unit o * P + p is channel o at position p). G groups of O units that see the same K inputs in
R rows: dense G = W, O = out, K = in, R = B; local G = W P, R = B; conv G = W, R = B P.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_input, conv2d_weight

from trainers.models.local import LocallyConnected, LocalNet
from trainers.models.mlp import Mlp
from trainers.models.spatial import halved

LayeredModel = Mlp | LocalNet
"""Models whose layers are linear maps, each followed by the activation and nothing else."""


@dataclass(frozen=True)
class Connections:
    """A dense layer: every unit sees every input."""

    num_inputs: int
    num_units: int

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(rows, K): a row per unit, or per channel where positions share one."""
        return self.num_units, self.num_inputs

    @property
    def fans(self) -> tuple[int, int]:
        """(fan_in, fan_out), as Glorot counts them."""
        return self.num_inputs, self.num_units

    def num_params(self) -> int:
        """Weights and biases."""
        rows, inputs = self.weight_shape
        return rows * (inputs + 1)

    def forward(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return z = W h + b, [W, B, out]."""
        return torch.baddbmm(bias.unsqueeze(1), h, weight.transpose(1, 2))

    def back(self, delta: Tensor, weight: Tensor) -> Tensor:
        """Return delta W, what units [W, B, out] send down through weights, [W, B, in]."""
        return torch.bmm(delta, weight)

    def weight_update(self, delta: Tensor, h: Tensor) -> Tensor:
        """Return the mean over rows of delta h^T, shaped as the weight."""
        return torch.bmm(delta.transpose(1, 2), h).div_(h.shape[1])

    def bias_update(self, delta: Tensor) -> Tensor:
        """Return the mean over rows of delta, shaped as the bias."""
        return delta.mean(1)

    def fields(self, h: Tensor) -> Tensor:
        """Return what each group of units sees of h [W, B, in], [G, R, K]."""
        return h

    def grouped(self, weight: Tensor) -> Tensor:
        """Return weights by group, [G, O, K]."""
        return weight

    def ungrouped(self, weight: Tensor, num_lanes: int) -> Tensor:
        """Return weights [G, O, K] as the layer keeps them, [W, rows, K]."""
        return weight


@dataclass(frozen=True)
class LocalConnections(Connections):
    """A locally connected layer: every unit sees a field of its own, through weights of its own."""

    in_channels: int
    in_sizes: tuple[int, int]
    """Height and width; a signal has height 1."""
    out_channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    @property
    def num_positions(self) -> int:
        """P."""
        return self.num_units // self.out_channels

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(rows, K); see `Connections`."""
        return self.num_units, self.in_channels * math.prod(self.kernel)

    @property
    def fans(self) -> tuple[int, int]:
        """As a convolution's, for tied and untied alike."""
        positions = math.prod(self.kernel)
        return self.in_channels * positions, self.out_channels * positions

    def forward(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return z = W h + b, [W, B, out]."""
        by_group = self.grouped(bias.unsqueeze(2)).transpose(1, 2)  # [G, 1, O]
        z = torch.baddbmm(by_group, self.fields(h), self.grouped(weight).transpose(1, 2))
        z = z.view(len(h), self.num_positions, h.shape[1], -1).permute(0, 2, 3, 1)
        return z.reshape(len(h), h.shape[1], self.num_units)

    def back(self, delta: Tensor, weight: Tensor) -> Tensor:
        """Return delta W, what units [W, B, out] send down through weights, [W, B, in]."""
        num_lanes, num_rows = delta.shape[:2]
        seen = torch.bmm(self._units(delta), self.grouped(weight))  # [G, R, K]
        seen = seen.view(num_lanes, self.num_positions, num_rows, -1).permute(0, 2, 3, 1)
        spread = nn.functional.fold(
            seen.flatten(0, 1), self.in_sizes, self.kernel, padding=self.padding, stride=self.stride
        )  # from [W B, K, P]
        return spread.view(num_lanes, num_rows, self.num_inputs)

    def weight_update(self, delta: Tensor, h: Tensor) -> Tensor:
        """Return the mean over rows of delta h^T, shaped as the weight."""
        update = torch.bmm(self._units(delta).transpose(1, 2), self.fields(h))
        return self.ungrouped(update, len(h)).div_(h.shape[1])

    def fields(self, h: Tensor) -> Tensor:
        """Return what each group of units sees of h [W, B, in], [G, R, K]."""
        seen = self._unfolded(h).view(*h.shape[:2], -1, self.num_positions).permute(0, 3, 1, 2)
        return seen.reshape(len(h) * self.num_positions, h.shape[1], -1)

    def grouped(self, weight: Tensor) -> Tensor:
        """Return weights by group, [G, O, K]."""
        by_channel = weight.reshape(len(weight), self.out_channels, self.num_positions, -1)
        return by_channel.transpose(1, 2).flatten(0, 1)

    def ungrouped(self, weight: Tensor, num_lanes: int) -> Tensor:
        """Return weights [G, O, K] as the layer keeps them, [W, rows, K]."""
        by_position = weight.reshape(num_lanes, self.num_positions, *weight.shape[1:])
        return by_position.transpose(1, 2).flatten(1, 2)

    def _unfolded(self, h: Tensor) -> Tensor:
        """Return all fields of h [W, B, in], [W B, K, P]."""
        pictures = h.reshape(-1, self.in_channels, *self.in_sizes)
        return nn.functional.unfold(pictures, self.kernel, padding=self.padding, stride=self.stride)

    def _units(self, delta: Tensor) -> Tensor:
        """Return deltas [W, B, out] by group, [G, R, O], in one piece: it multiplies faster."""
        by_channel = delta.reshape(*delta.shape[:2], self.out_channels, self.num_positions)
        return by_channel.permute(0, 3, 1, 2).flatten(0, 1).contiguous()


@dataclass(frozen=True)
class ConvConnections(LocalConnections):
    """A convolution: a locally connected layer whose positions share their weights.

    Products are torch's convolutions, lane by lane: over all lanes at once they mostly lose on a
    CPU, and torch rounds one lane's differently.
    """

    @property
    def weight_shape(self) -> tuple[int, int]:
        """(rows, K); see `Connections`."""
        return self.out_channels, self.in_channels * math.prod(self.kernel)

    def forward(self, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Return z = W h + b, [W, B, out]."""
        lanes = zip(self._pictures(h), self._kernels(weight), bias, strict=True)
        z = [
            nn.functional.conv2d(picture, kernel, own, self.stride, self.padding)
            for picture, kernel, own in lanes
        ]
        return torch.stack(z).flatten(2)

    def back(self, delta: Tensor, weight: Tensor) -> Tensor:
        """Return delta W, what units [W, B, out] send down through weights, [W, B, in]."""
        size, geometry = (delta.shape[1], *self._picture), (self.stride, self.padding)
        lanes = zip(self._maps(delta), self._kernels(weight), strict=True)
        down = [
            conv2d_input(size, kernel, maps, *geometry)  # type: ignore[no-untyped-call]
            for maps, kernel in lanes
        ]
        return torch.stack(down).flatten(2)

    def weight_update(self, delta: Tensor, h: Tensor) -> Tensor:
        """Return the mean over rows of delta h^T, shaped as the weight."""
        size, geometry = self._kernel, (self.stride, self.padding)
        lanes = zip(self._maps(delta), self._pictures(h), strict=True)
        updates = [
            conv2d_weight(picture, size, maps, *geometry)  # type: ignore[no-untyped-call]
            for maps, picture in lanes
        ]
        return torch.stack(updates).flatten(2).div_(h.shape[1])

    def bias_update(self, delta: Tensor) -> Tensor:
        """Return the mean over rows of delta, shaped as the bias."""
        return delta.mean(1).view(len(delta), self.out_channels, -1).sum(2)

    def fields(self, h: Tensor) -> Tensor:
        """Return what each group of units sees of h [W, B, in], [G, R, K]."""
        seen = self._unfolded(h).transpose(1, 2)  # [W B, P, K]
        return seen.reshape(len(h), h.shape[1] * self.num_positions, -1)

    def grouped(self, weight: Tensor) -> Tensor:
        """Return weights by group, [G, O, K]."""
        return weight

    def ungrouped(self, weight: Tensor, num_lanes: int) -> Tensor:
        """Return weights [G, O, K] as the layer keeps them, [W, rows, K]."""
        return weight

    @property
    def _picture(self) -> tuple[int, ...]:
        """Shape of one row of inputs."""
        return self.in_channels, *self.in_sizes

    @property
    def _kernel(self) -> tuple[int, ...]:
        """Shape of the weight, as torch's convolutions read it."""
        return self.out_channels, self.in_channels, *self.kernel

    def _pictures(self, h: Tensor) -> Tensor:
        return h.reshape(*h.shape[:2], *self._picture)

    def _kernels(self, weight: Tensor) -> Tensor:
        return weight.view(-1, *self._kernel)

    def _maps(self, delta: Tensor) -> Tensor:
        """Return deltas [W, B, out] as maps [W, B, O, height, width]."""
        height = (self.in_sizes[0] + self.stride[0] - 1) // self.stride[0]
        return delta.reshape(*delta.shape[:2], self.out_channels, height, -1)


def weight_layers(model: LayeredModel) -> list[tuple[str, nn.Module]]:
    """Return the name and module of every layer with weights, from the data to the outputs."""
    kinds = (nn.Linear, LocallyConnected, nn.Conv1d, nn.Conv2d)
    return [(name, part) for name, part in model.named_modules() if isinstance(part, kinds)]


def connections_of(model: LayeredModel) -> list[Connections]:
    """Return how each layer of a model is wired, from the data to the outputs."""
    found: list[Connections] = []
    shape = model.input_shape if isinstance(model, LocalNet) else ()
    for _, layer in weight_layers(model):
        if isinstance(layer, nn.Linear):
            found.append(Connections(layer.in_features, layer.out_features))
        else:
            assert isinstance(layer, LocallyConnected | nn.Conv1d | nn.Conv2d)
            found.append(_local(layer, shape))
            shape = (layer.out_channels, *halved(shape[1:]))
    return found


def _local(
    layer: LocallyConnected | nn.Conv1d | nn.Conv2d, shape: tuple[int, ...]
) -> LocalConnections:
    """Return the wiring of a layer of stride 2 over inputs of shape (channels, *sizes)."""
    channels, *sizes = shape
    side = layer.kernel_size if isinstance(layer, LocallyConnected) else layer.kernel_size[0]
    is_signal = len(sizes) == 1
    made = LocalConnections if isinstance(layer, LocallyConnected) else ConvConnections
    return made(
        num_inputs=math.prod(shape),
        num_units=layer.out_channels * math.prod(halved(shape[1:])),
        in_channels=channels,
        in_sizes=(1, sizes[0]) if is_signal else (sizes[0], sizes[1]),
        out_channels=layer.out_channels,
        kernel=(1 if is_signal else side, side),
        stride=(1 if is_signal else 2, 2),
        padding=(0 if is_signal else side // 2, side // 2),
    )
