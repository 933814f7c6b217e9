"""A small convolutional network for images and one-dimensional signals."""

from __future__ import annotations

import math

from torch import Tensor, nn

from trainers.config import Activation
from trainers.errors import ConfigError
from trainers.models.mlp import BatchNormPlace, hidden_block
from trainers.models.spatial import spatial_layers

KERNEL_SIZE = 3


class Cnn(nn.Module):
    """`depth` blocks of 3-wide convolution and 2x max pooling, then a linear head.

    The input shape decides the kind: (channels, length) is a signal and gets 1-D convolutions,
    (channels, height, width) an image and gets 2-D ones. Block i has width * 2^i channels, so
    that halving the resolution does not halve the capacity with it. Each block is convolution ->
    [batch norm] -> activation -> [batch norm] -> pooling -> dropout, as named children `conv`,
    `norm`, `act`, `pool` and `dropout`. What is left is flattened into the head, which keeps
    the position information that a global average would lose on small images.

    Raises:
        ConfigError: for flat inputs, and for more blocks than the input can be halved.

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
    ) -> None:
        super().__init__()
        check_cnn_input(input_shape, depth)
        layers = spatial_layers("cnn", input_shape)
        channels, *sizes = input_shape
        self.layers = nn.ModuleList()
        for block in range(depth):
            out_channels = width * 2**block
            norm = layers.norm(out_channels, momentum=bn_momentum) if batch_norm != "none" else None
            self.layers.append(
                hidden_block(
                    "conv",
                    layers.conv(channels, out_channels, KERNEL_SIZE, padding=KERNEL_SIZE // 2),
                    norm,
                    activation=activation,
                    dropout=dropout,
                    batch_norm=batch_norm,
                    pool=layers.pool(2),
                )
            )
            channels, sizes = out_channels, [size // 2 for size in sizes]
        self.head = nn.Linear(channels * math.prod(sizes), num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or numbers [B, num_outputs] for x [B, channels, *sizes]."""
        for layer in self.layers:
            x = layer(x)
        return self.head(x.flatten(1))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def check_cnn_input(input_shape: tuple[int, ...], depth: int) -> None:
    """Raise ConfigError where a cnn of this depth cannot take inputs of this shape."""
    spatial_layers("cnn", input_shape)
    deepest = min(input_shape[1:]).bit_length() - 1
    if depth > deepest:
        raise ConfigError(
            f"`model.depth` of a cnn halves each side once per block, so inputs of shape "
            f"{input_shape} allow at most {deepest} blocks, but got {depth}; lower `model.depth`"
        )
