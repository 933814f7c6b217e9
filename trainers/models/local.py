"""Locally connected networks, and the conv net that they become when weights are tied (p. 34).

Shapes: B rows; K = channels * kernel positions, the numbers in a receptive field; P output
positions; O output channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainers.config import Activation
from trainers.models.mlp import BatchNormPlace, hidden_block
from trainers.models.spatial import check_halvings, check_kernel, halved, spatial_layers


class Patches(nn.Module):
    """Every receptive field of a signal [B, C, T] or an image [B, C, H, W], as [B, K, P].

    Outside the input there are zeros, so that P is the input's number of positions over stride
    to the power of the dimensions, rounded up.
    """

    def __init__(self, kernel_size: int, stride: int, num_dims: int) -> None:
        super().__init__()
        flat = num_dims == 1  # a signal is an image of height 1
        self.unfold = nn.Unfold(
            (1, kernel_size) if flat else kernel_size,
            padding=(0, kernel_size // 2) if flat else kernel_size // 2,
            stride=(1, stride) if flat else stride,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, K, P]; K runs over channels, then kernel positions, as a conv's weight."""
        return self.unfold(x.unsqueeze(2) if x.dim() == 3 else x)  # type: ignore[no-any-return]


class LocallyConnected(nn.Module):
    """A convolution whose kernel is another one at each position.

    `weight` [O * P, K] has one row per output unit, like a linear layer's, and `bias` [O * P] one
    number; unit o * P + p is channel o at position p. O * P * (K + 1) parameters.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sizes: tuple[int, ...],
        *,
        kernel_size: int = 3,
        stride: int = 2,
    ) -> None:
        super().__init__()
        self.out_sizes = tuple(-(-size // stride) for size in sizes)
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.patches = Patches(kernel_size, stride, len(sizes))
        fan_in = in_channels * kernel_size ** len(sizes)
        self.weight_fans = (fan_in, out_channels * kernel_size ** len(sizes))
        """As the conv twin's, so that both start from the same distribution."""
        num_units = out_channels * math.prod(self.out_sizes)
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(num_units, fan_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_units).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, O, *out_sizes] for x [B, C, *sizes]."""
        patches = self.patches(x)  # [B, K, P]
        weight = self.weight.view(self.out_channels, -1, patches.shape[1])  # [O, P, K]
        out = torch.einsum("bkp,opk->bop", patches, weight)
        out = out + self.bias.view(self.out_channels, -1)
        return out.reshape(*out.shape[:2], *self.out_sizes)


class LocalNet(nn.Module):
    """`depth` locally connected layers of stride 2, [a fully connected layer], a linear head.

    Layer i has width * 2^i channels; strides stand in for pooling, and what is outside the input
    is 0. With `tied` the layers are convolutions of the same geometry: the conv twin. Bartunov et
    al. (2018), whose table the lecture shows on p. 34, use depth 2, width 32, head width 1024 and
    tanh on MNIST: 4,191,562 parameters, the twin 3,241,354.

    Raises:
        ConfigError: for flat inputs, and for more layers than the input can be halved.

    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        depth: int = 2,
        width: int = 32,
        activation: Activation = "relu",
        dropout: float = 0.0,
        batch_norm: BatchNormPlace = "none",
        bn_momentum: float = 0.1,
        tied: bool = False,
        kernel_size: int = 3,
        head_width: int = 0,
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        layers = spatial_layers("local", input_shape)
        check_kernel(input_shape, kernel_size)
        check_halvings("local", input_shape, depth, "lower `model.depth`")
        channels, sizes = input_shape[0], input_shape[1:]
        self.layers = nn.ModuleList()
        for index in range(depth):
            out_channels = width * 2**index
            layer = (
                layers.conv(channels, out_channels, kernel_size, stride=2, padding=kernel_size // 2)
                if tied
                else LocallyConnected(channels, out_channels, sizes, kernel_size=kernel_size)
            )
            norm = layers.norm(out_channels, momentum=bn_momentum)
            self.layers.append(
                hidden_block(
                    "conv" if tied else "local",
                    layer,
                    norm if batch_norm != "none" else None,
                    activation=activation,
                    dropout=dropout,
                    batch_norm=batch_norm,
                )
            )
            channels, sizes = out_channels, halved(sizes)
        num_features = channels * math.prod(sizes)
        self.hidden = nn.ModuleList()
        if head_width:
            norm = nn.BatchNorm1d(head_width, momentum=bn_momentum)
            self.hidden.append(
                hidden_block(
                    "linear",
                    nn.Linear(num_features, head_width),
                    norm if batch_norm != "none" else None,
                    activation=activation,
                    dropout=dropout,
                    batch_norm=batch_norm,
                )
            )
        self.head = nn.Linear(head_width or num_features, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or numbers [B, num_outputs] for x [B, channels, *sizes]."""
        for layer in self.layers:
            x = layer(x)
        x = x.flatten(1)
        for layer in self.hidden:
            x = layer(x)
        return self.head(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any
