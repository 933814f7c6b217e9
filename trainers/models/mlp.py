"""The multilayer perceptron (lecture, p. 12-15)."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from trainers.activations import activation_module
from trainers.config import Activation
from trainers.models.dropout import LaneDropout

BatchNormPlace = Literal["none", "before", "after"]


class Mlp(nn.Module):
    """`depth` hidden layers of `width` units and a linear head; depth 0 is a linear model.

    Each hidden layer is linear -> [batch norm] -> activation -> [batch norm] -> dropout, as
    named children `linear`, `norm` (where there is one), `act` and `dropout`. Dropout stands
    behind its layer's normalisation: before one, it shifts the variance between training and
    test (Li et al., 2019). The next layer's norm still sees what is dropped, so with both in a
    deep net expect some shift. Inputs [B, *input_shape] are flattened; outputs [B, num_outputs].
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
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        num_inputs = math.prod(input_shape)
        for _ in range(depth):
            self.layers.append(
                hidden_block(
                    "linear",
                    nn.Linear(num_inputs, width),
                    nn.BatchNorm1d(width, momentum=bn_momentum) if batch_norm != "none" else None,
                    activation=activation,
                    dropout=dropout,
                    batch_norm=batch_norm,
                )
            )
            num_inputs = width
        self.head = nn.Linear(num_inputs, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or numbers [B, num_outputs] for x [B, *input_shape]."""
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def hidden_block(
    weight_name: str,
    weight_layer: nn.Module,
    norm: nn.Module | None,
    *,
    activation: Activation,
    dropout: float,
    batch_norm: BatchNormPlace,
    pool: nn.Module | None = None,
) -> nn.Sequential:
    """Put weights, normalisation, activation, pooling and dropout in their order."""
    parts: OrderedDict[str, nn.Module] = OrderedDict({weight_name: weight_layer})
    if norm is not None and batch_norm == "before":
        parts["norm"] = norm
    parts["act"] = activation_module(activation)
    if norm is not None and batch_norm == "after":
        parts["norm"] = norm
    if pool is not None:
        parts["pool"] = pool
    parts["dropout"] = LaneDropout(dropout)
    return nn.Sequential(parts)
