"""Recurrent nets with their cells written out: RNN, LSTM and GRU (lecture, p. 11).

torch's own recurrent layers raise or crawl under `torch.func.vmap`; these compute the same from
the same four tensors per layer (see `recurrence`).

Shapes: B rows, T steps, F features, D width, G gates.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode

from trainers.config import Activation
from trainers.errors import ConfigError
from trainers.models.dropout import LaneDropout
from trainers.models.lstm import lstm
from trainers.models.recurrence import (
    Backward,
    Forward,
    gru_backward,
    gru_forward,
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
        self.steps: LstmSteps | DrivenSteps
        self.steps = LstmSteps() if cell == "lstm" else DrivenSteps(cell, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return the states after every step, [B, T, D], for x [B, T, F]."""
        states: Tensor = self.steps(x.transpose(0, 1), self.input, self.recurrent)
        return states.transpose(0, 1)


class DrivenSteps(nn.Module):
    """The steps of an rnn or a gru: what the inputs contribute is one product for all of them."""

    def __init__(self, cell: CellKind, activation: Activation) -> None:
        super().__init__()
        self._forward: Forward = gru_forward
        self._backward: Backward = gru_backward
        if cell == "rnn":
            self._forward = partial(rnn_forward, activation)
            self._backward = partial(rnn_backward, activation)

    def forward(self, x: Tensor, from_input: nn.Linear, from_state: nn.Linear) -> Tensor:
        """Return the states [T, B, D] for x [T, B, F]."""
        drive: Tensor = from_input(x)  # [T, B, G D]
        weight, bias = from_state.weight.to(drive.dtype), from_state.bias.to(drive.dtype)
        return recur(self._forward, self._backward, drive, weight, bias)


class LstmSteps(nn.Module):
    """The steps of an lstm: by torch's own kernel where there is one for a single net, else ours.

    It is a module because what modules put out is what a pack's memory is estimated by.
    """

    def forward(self, x: Tensor, from_input: nn.Linear, from_state: nn.Linear) -> Tensor:
        """Return the states [T, B, D] for x [T, B, F]."""
        weights = [from_input.weight, from_state.weight, from_input.bias, from_state.bias]
        if _has_a_kernel(x, from_input.weight):
            start = x.new_zeros(1, x.shape[1], from_state.in_features)
            states: Tensor = torch.lstm(
                x,
                [start, start],
                weights,
                has_biases=True,
                num_layers=1,
                dropout=0.0,
                train=self.training,
                bidirectional=False,
                batch_first=False,
            )[0]
            return states
        device = x.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
            x, weights = x.to(dtype), [weight.to(dtype) for weight in weights]
        return lstm(x, weights[0], weights[1], weights[2] + weights[3])


def _has_a_kernel(x: Tensor, weight: Tensor) -> bool:
    """Say whether torch runs all steps of an LSTM on x as one oneDNN call, forward and backward.

    It does for one net in float32 on a CPU. Under `torch.func` its kernel raises or crawls, and
    whoever watches operations, as torch's FLOP counter does, would see no products in it.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and torch._C._get_mkldnn_enabled()
        and torch._C._has_mkldnn
        and not torch.is_autocast_enabled("cpu")
        and _get_current_dispatch_mode() is None
        and not any(map(is_functorch_wrapped_tensor, (x, weight)))
    )


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
