"""Recurrent nets with their cells written out: RNN, LSTM and GRU (lecture, p. 11).

torch's own recurrent layers raise or crawl under `torch.func.vmap`; these compute the same from
the same four tensors per layer (see `recurrence`).

Shapes: B rows, T steps, F features, D width, G gates.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn

from trainers.config import Activation
from trainers.errors import ConfigError
from trainers.models.dropout import LaneDropout
from trainers.models.recurrence import (
    Backward,
    Forward,
    gru_backward,
    gru_forward,
    lstm_backward,
    lstm_forward,
    recur,
    rnn_backward,
    rnn_forward,
)
from trainers.models.sequences import Embedding, as_steps, sequence_shape

CellKind = Literal["rnn", "lstm", "gru"]
GATES: dict[CellKind, int] = {"rnn": 1, "lstm": 4, "gru": 3}


class RecurrentLayer(nn.Module):
    """One layer over all steps, from a state of zeros; equal to torch's layer of its kind.

    `input` and `recurrent` are torch's `weight_ih`, `bias_ih` and `weight_hh`, `bias_hh`, with
    the gates stacked in torch's order. Sources: Elman, 1990 (rnn); Hochreiter & Schmidhuber,
    1997, with forget gates (Gers et al., 2000) (lstm); Cho et al., 2014, with the reset gate
    after the product, as cuDNN and torch have it (gru). Gates are sigmoids; tanh makes the
    candidate and the output.
    """

    def __init__(self, cell: CellKind, num_inputs: int, width: int, activation: Activation) -> None:
        super().__init__()
        self.input = nn.Linear(num_inputs, GATES[cell] * width)
        self.recurrent = nn.Linear(width, GATES[cell] * width)
        self._forward: Forward
        self._backward: Backward
        if cell == "rnn":
            self._forward = partial(rnn_forward, activation)
            self._backward = partial(rnn_backward, activation)
        elif cell == "gru":
            self._forward, self._backward = gru_forward, gru_backward
        else:
            self._forward, self._backward = lstm_forward, lstm_backward

    def forward(self, x: Tensor) -> Tensor:
        """Return the states after every step, [B, T, D], for x [B, T, F]."""
        drive: Tensor = self.input(x.transpose(0, 1))  # all steps in one product, [T, B, G * D]
        weight, bias = self.recurrent.weight.to(drive.dtype), self.recurrent.bias.to(drive.dtype)
        return recur(self._forward, self._backward, drive, weight, bias).transpose(0, 1)


class Recurrent(nn.Module):
    """`depth` recurrent layers with dropout after each, and a linear head.

    A classifier reads signals step by step and images row by row, and answers from the last
    state. A language model embeds tokens and answers after every step. `activation` is that of
    an rnn's state; lstm and gru have their own.

    Raises:
        ConfigError: for no layer at all, and for rows without an order.

    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        cell: CellKind,
        depth: int = 1,
        width: int = 64,
        activation: Activation = "tanh",
        dropout: float = 0.0,
        language_model: bool = False,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ConfigError(f"`model.depth` of a {cell} must be >= 1, but got {depth}; try 1")
        _, features = sequence_shape(input_shape, kind=cell, language_model=language_model)
        self.embedding = Embedding(num_outputs, width) if language_model else None
        sizes = [width if language_model else features, *[width] * (depth - 1)]
        self.layers = nn.ModuleList(
            nn.Sequential(RecurrentLayer(cell, size, width, activation), LaneDropout(dropout))
            for size in sizes
        )
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, num_outputs], or [B, T, num_outputs] of a language model.

        Args:
            x: [B, channels, *sizes], or tokens [B, T] written as numbers.

        """
        x = as_steps(x) if self.embedding is None else self.embedding(x.long())
        for layer in self.layers:
            x = layer(x)
        last = x[:, -1] if self.embedding is None else x
        return self.head(last)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def num_recurrent_params(
    cell: CellKind, features: int, num_outputs: int, *, depth: int, width: int, tokens: int = 0
) -> int:
    """Return the number of parameters in closed form; with `tokens`, embeddings included.

    Each layer has G D (inputs + D + 2): two weights and two biases for each of its G gates.
    """
    sizes = [width if tokens else features, *[width] * (depth - 1)]
    layers = sum(GATES[cell] * width * (size + width + 2) for size in sizes)
    return tokens * width + layers + (width + 1) * num_outputs
