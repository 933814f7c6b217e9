"""Dense connections: each layer sees the input and every layer before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainers.config import Activation
from trainers.models.mlp import BatchNormPlace, hidden_block


class DenseNet(nn.Module):
    """An MLP whose layer i reads the input and the outputs of layers 0 to i - 1, side by side.

    `width` is the growth rate k of Huang et al., "Densely connected convolutional networks"
    (2017): with d inputs and C outputs the net has
    sum over i < depth of (d + i k + 1) k, and (d + depth k + 1) C in the head, parameters.
    The head reads everything, so that gradients reach each layer directly.
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
    ) -> None:
        super().__init__()
        num_features = math.prod(input_shape)
        self.layers = nn.ModuleList()
        for _ in range(depth):
            norm = nn.BatchNorm1d(width, momentum=bn_momentum) if batch_norm != "none" else None
            self.layers.append(
                hidden_block(
                    "linear",
                    nn.Linear(num_features, width),
                    norm,
                    activation=activation,
                    dropout=dropout,
                    batch_norm=batch_norm,
                )
            )
            num_features += width
        self.head = nn.Linear(num_features, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or numbers [B, num_outputs] for x [B, *input_shape]."""
        x = x.flatten(1)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return self.head(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any
