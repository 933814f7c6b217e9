"""Recurrences over all steps as one differentiable operation each, backward written out.

Through autograd a sequence costs a dozen recorded operations per step, and `torch.func.vmap` adds
its own to each. Here the steps run on plain tensors, whole packs of lanes at once, and the weights'
gradients are one product over all steps (backpropagation through time; Werbos, 1990).

Shapes: `*` lanes or nothing, T steps, B rows, D width, G gates. `drive` [*, T, B, G D] is what the
inputs contribute to the gates; `weight` [*, G D, D] and `bias` [*, G D] are the recurrent ones.
The LSTM, whose inputs and states share a product, is in `lstm`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx

from trainers.activations import activate
from trainers.config import Activation

aten = torch.ops.aten
Forward = Callable[..., tuple[Tensor, ...]]
"""(rows, weights...) -> (states [*, T, B, D], kept [*, ...], ...); rows are drive, or inputs."""
Backward = Callable[[Tensor, Sequence[Tensor], Tensor, Sequence[Tensor], bool], tuple[Tensor, ...]]
"""(slopes of the states, weights, states, kept, whether the rows' slopes are wanted) -> slopes of
each weight, then of the rows where they are wanted."""


def _with_product(base: Tensor, h: Tensor, weight: Tensor) -> Tensor:
    """Return base + h weight^T, for one lane, several, or several of several.

    Not in place: torch's FLOP counter does not see products that are.
    """
    if h.dim() == 2:
        return torch.addmm(base, h, weight.mT)
    if h.dim() == 3:
        return torch.baddbmm(base, h, weight.mT)
    return base + h @ weight.mT


def _steps(rows: Tensor) -> Sequence[Tensor]:
    """Return the T steps of [*, T, B, X] as views, each [*, B, X]."""
    return rows.unbind(-3)


def _room(drive: Tensor, width: int) -> Tensor:
    """Return room for D numbers of every step, [*, T, B, D]."""
    return drive.new_empty(*drive.shape[:-1], width)


def _start(rows: Tensor, width: int) -> Tensor:
    """Return a state of zeros for rows [*, T, B, X], [*, B, D]."""
    return rows.new_zeros(*rows.shape[:-3], rows.shape[-2], width)


def _backwards(*kept: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Go through the steps from the last to the first."""
    return zip(*(reversed(steps) for steps in kept), strict=True)


# --- rnn: h = g(drive + W h + b) ----------------------------------------------------------------


def rnn_forward(
    activation: Activation, drive: Tensor, weight: Tensor, bias: Tensor
) -> tuple[Tensor, ...]:
    """Return (states,)."""
    states = drive + bias[..., None, None, :]
    h = _start(drive, weight.shape[-1])
    for own in _steps(states):
        h = own.copy_(activate(activation, _with_product(own, h, weight)))
    return (states,)


def rnn_backward(
    activation: Activation,
    slopes: Tensor,
    weights: Sequence[Tensor],
    states: Tensor,
    _kept: Sequence[Tensor],
    of_rows: bool,
) -> tuple[Tensor, ...]:
    """Return the slopes of weight, bias and drive."""
    weight = weights[0]
    of_drive = _derivative_by_output(activation, states)
    carried = _start(states, weight.shape[-1])
    for slope, inside in _backwards(_steps(slopes), _steps(of_drive)):
        inside.mul_(carried.add_(slope))
        carried = inside @ weight
    return _slopes(of_drive, of_drive, states, of_rows)


def _derivative_by_output(activation: Activation, states: Tensor) -> Tensor:
    """Return g'(z) for h = g(z), which all five activations give away; ReLU's is 0 at 0."""
    if activation == "tanh":
        return 1 - states.square()
    if activation == "sigmoid":
        return states * (1 - states)
    if activation == "relu":
        return (states > 0).to(states.dtype)
    if activation == "elu":
        return 1 + states.clamp(max=0)
    return torch.ones_like(states)


# --- gru: h = (1 - z) n + z h, n = tanh(drive_n + r (W_n h + b_n)) -------------------------------


def gru_forward(drive: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """Return (states, gates r z n [*, T, B, 3 D], fed back W_n h + b_n)."""
    width = weight.shape[-1]
    h = _start(drive, width)
    gates, states, fed_back = drive.clone(), _room(drive, width), _room(drive, width)
    each_step = (_steps(part) for part in (gates, states, fed_back))
    for own, state, fed in zip(*each_step, strict=True):
        product = _with_product(bias.unsqueeze(-2), h, weight)
        switches, candidate = own[..., : 2 * width], own[..., 2 * width :]
        switches.add_(product[..., : 2 * width]).sigmoid_()
        fed.copy_(product[..., 2 * width :])
        candidate.addcmul_(switches[..., :width], fed).tanh_()
        h = torch.lerp(candidate, h, switches[..., width:], out=state)
    return states, gates, fed_back


def gru_backward(
    slopes: Tensor,
    weights: Sequence[Tensor],
    states: Tensor,
    kept: Sequence[Tensor],
    of_rows: bool,
) -> tuple[Tensor, ...]:
    """Return the slopes of weight, bias and drive."""
    (weight, _), (gates, fed_back) = weights, kept
    width = weight.shape[-1]
    carried = _start(states, width)
    before = [carried.clone(), *_steps(states)[:-1]]
    of_drive, of_product = torch.empty_like(gates), torch.empty_like(gates)
    each_step = (_steps(part) for part in (slopes, gates, fed_back, of_drive, of_product))
    for h, slope, gate, fed, into, into_product in _backwards(before, *each_step):
        reset, update, candidate = gate.chunk(3, -1)
        of_switches, of_candidate = into[..., : 2 * width], into[..., 2 * width :]
        dh = carried.add_(slope)
        passed = dh * update
        of_candidate.copy_(aten.tanh_backward(dh - passed, candidate))
        torch.mul(of_candidate, fed, out=of_switches[..., :width])
        torch.mul(dh, h - candidate, out=of_switches[..., width:])
        of_switches.copy_(aten.sigmoid_backward(of_switches, gate[..., : 2 * width]))
        into_product.copy_(into)
        into_product[..., 2 * width :].mul_(reset)
        carried = _with_product(passed, into_product, weight.mT)
    return _slopes(of_drive, of_product, states, of_rows)


# --- one operation for autograd and vmap ---------------------------------------------------------


def recur(forward: Forward, backward: Backward, rows: Tensor, *weights: Tensor) -> Tensor:
    """Return the states [T, B, D] after every step, differentiable in all tensors."""
    outputs = _Recur.apply(forward, backward, rows, *weights)  # type: ignore[no-untyped-call]
    states: Tensor = outputs[0]
    return states


class _Recur(Function):
    """The forward pass; what it keeps for the backward pass are outputs too, as vmap demands."""

    @staticmethod
    def forward(
        forward: Forward, backward: Backward, rows: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        return forward(rows, *weights)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, ctx.backward_of, _, *weights = inputs
        ctx.num_weights = len(weights)
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*weights, *output)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        of_rows = ctx.needs_input_grad[2]
        settings = (ctx.backward_of, ctx.num_weights, of_rows)
        found = list(_RecurBackward.apply(*settings, slopes[0], *ctx.saved_tensors))  # type: ignore[no-untyped-call]
        return None, None, found.pop() if of_rows else None, *found

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], int]:
        forward, backward, *tensors = inputs
        stacked = _lanes_first(info.batch_size, in_dims[2:], tensors)
        return _Recur.apply(forward, backward, *stacked), 0  # type: ignore[no-untyped-call]


class _RecurBackward(Function):
    """The backward pass, an operation of its own so that vmap runs it on all lanes at once."""

    @staticmethod
    def forward(
        backward: Backward, num_weights: int, of_rows: bool, slopes: Tensor, *saved: Tensor
    ) -> tuple[Tensor, ...]:
        weights, (states, *kept) = saved[:num_weights], saved[num_weights:]
        return backward(slopes, weights, states, kept, of_rows)

    @staticmethod
    def setup_context(ctx: FunctionCtx, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep nothing: second derivatives are not written out."""

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *inputs: Any
    ) -> tuple[tuple[Tensor, ...], int]:
        stacked = _lanes_first(info.batch_size, in_dims[3:], inputs[3:])
        return _RecurBackward.apply(*inputs[:3], *stacked), 0  # type: ignore[no-untyped-call]


def _slopes(
    of_drive: Tensor, of_product: Tensor, states: Tensor, of_rows: bool
) -> tuple[Tensor, ...]:
    """Return the slopes of weight, bias, and drive where it is wanted.

    The state before the first step is zero, so that step says nothing of the weight.
    """
    num_steps = states.shape[-3] - 1
    later = of_product.narrow(-3, 1, num_steps).flatten(-3, -2)  # [*, (T - 1) B, G D]
    of_weight = later.mT @ states.narrow(-3, 0, num_steps).flatten(-3, -2)
    of_bias = of_product.sum((-3, -2))
    return (of_weight, of_bias, of_drive) if of_rows else (of_weight, of_bias)


def _lanes_first(
    num_lanes: int, in_dims: Sequence[int | None], tensors: Sequence[Tensor]
) -> list[Tensor]:
    """Return tensors with the lanes' axis first; what all lanes share is repeated by view."""
    return [
        tensor.expand(num_lanes, *tensor.shape) if axis is None else tensor.movedim(axis, 0)
        for axis, tensor in zip(in_dims, tensors, strict=True)
    ]
