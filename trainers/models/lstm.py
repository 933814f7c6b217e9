"""The LSTM over all steps: one product per step, forward and backward written out.

i, f, o = sigmoid and g = tanh of V x + R h + b; c = f c + i g, h = o tanh(c) (Hochreiter &
Schmidhuber, 1997, with the forget gates of Gers et al., 2000).

Three things make a pack of them as fast as torch's own layer is alone. Rows are the last axis, so
that each gate of a lane is one block of memory. Input and state of a step lie side by side, so that
one product with [V R] serves both. And tanh(z) is taken as 2 sigmoid(2 z) - 1, a fifth of the time
of `torch.tanh` on a CPU.

Shapes: `*` lanes or nothing, L lanes, T steps, B rows, F inputs, D width. Gates lie in torch's
order i f g o.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Size, Tensor

from trainers.models.recurrence import recur

aten = torch.ops.aten


def lstm(x: Tensor, of_input: Tensor, of_state: Tensor, bias: Tensor) -> Tensor:
    """Return the states after every step, [T, B, D], from a state of zeros.

    Args:
        x: [T, B, F].
        of_input: V, [4 D, F].
        of_state: R, [4 D, D].
        bias: [4 D].

    """
    return recur(_forward, _backward, x, of_input, of_state, bias)


def _forward(x: Tensor, of_input: Tensor, of_state: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
    """Return (states [*, T, B, D], read, gates, memories c, shown tanh(c)), each [*, T, ..., B].

    `read` [*, T + 1, F + D, B] is what each step reads: its input, and the state before it.
    """
    lanes, (num_steps, num_rows, num_inputs) = x.shape[:-3], x.shape[-3:]
    num_lanes, width = lanes.numel(), of_state.shape[-1]
    weight = torch.cat([of_input, of_state], -1).view(num_lanes, 4 * width, -1)
    shift = bias.reshape(num_lanes, 4 * width, 1).clone()
    for part in (weight, shift):
        part[:, 2 * width : 3 * width].mul_(2)  # of the candidate, for 2 z; doubling is exact
    read = x.new_empty(num_steps + 1, num_lanes, num_inputs + width, num_rows)
    inputs, states = read[:, :, :num_inputs], read[:, :, num_inputs:]
    inputs[:-1].copy_(x.reshape(num_lanes, *x.shape[-3:]).transpose(0, 1).mT)
    memory = states[0].zero_()
    gates = x.new_empty(num_steps, num_lanes, 4 * width, num_rows)
    memories, shown = (x.new_empty(num_steps, num_lanes, width, num_rows) for _ in range(2))
    each_step = (part.unbind() for part in (read[:-1], states[1:], gates, memories, shown))
    for seen, state, own, remembered, visible in zip(*each_step, strict=True):
        torch.baddbmm(shift, weight, seen, out=own).sigmoid_()
        take, forget, candidate, show = own.chunk(4, 1)
        candidate.mul_(2).sub_(1)
        memory = torch.mul(forget, memory, out=remembered).addcmul_(take, candidate)
        torch.mul(memory, 2, out=visible).sigmoid_().mul_(2).sub_(1)
        torch.mul(show, visible, out=state)
    return tuple(_outside(part, lanes) for part in (states[1:].mT, read, gates, memories, shown))


def _backward(
    slopes: Tensor,
    weights: Sequence[Tensor],
    _states: Tensor,
    kept: Sequence[Tensor],
    of_rows: bool,
) -> tuple[Tensor, ...]:
    """Return the slopes of V, R and b, and those of x where they are wanted."""
    lanes, num_inputs, width = slopes.shape[:-3], weights[0].shape[-1], weights[1].shape[-1]
    read, gates, memories, shown = (_inside(part, lanes) for part in kept)
    slopes = _inside(slopes, lanes).mT.contiguous()  # [T, L, D, B]
    to_input, to_state = (
        part.reshape(lanes.numel(), *part.shape[-2:]).mT.contiguous() for part in weights[:2]
    )
    of_weight = read.new_zeros(lanes.numel(), 4 * width, num_inputs + width)
    of_bias = of_weight.new_zeros(lanes.numel(), 4 * width)
    of_inputs = []
    of_state, of_memory = slopes[-1], torch.zeros_like(memories[0])
    inside, nothing = torch.empty_like(gates[0]), torch.zeros_like(of_memory)
    for step in reversed(range(len(gates))):
        before = memories[step - 1] if step else nothing
        _through_gates(of_state, of_memory, gates[step], before, shown[step], inside)
        torch.baddbmm(of_weight, inside, read[step].mT, out=of_weight)
        of_bias.add_(inside.sum(-1))
        if of_rows:
            of_inputs.append(to_input @ inside)
        if step:
            of_state = torch.baddbmm(slopes[step - 1], to_state, inside)
    found = [of_weight[..., :num_inputs], of_weight[..., num_inputs:], of_bias]
    found = [part.reshape(*lanes, *part.shape[1:]) for part in found]
    if of_rows:
        found.append(_outside(torch.stack(of_inputs[::-1]).mT, lanes))
    return tuple(found)


def _through_gates(
    of_state: Tensor, of_memory: Tensor, gates: Tensor, before: Tensor, shown: Tensor, out: Tensor
) -> None:
    """Write one step's slopes of V x + R h + b into `out`; bring `of_memory` to the step before.

    Everything is [L, D, B], but `gates` and `out` [L, 4 D, B]; `before` is the memory then.
    """
    width = shown.shape[1]
    take, forget, candidate, show = gates.chunk(4, 1)
    of_take, of_forget, of_candidate, of_show = out.chunk(4, 1)
    of_memory.add_(aten.tanh_backward(of_state * show, shown))
    torch.mul(of_memory, candidate, out=of_take)
    torch.mul(of_memory, before, out=of_forget)
    torch.mul(of_memory, take, out=of_candidate)
    torch.mul(of_state, shown, out=of_show)
    of_memory.mul_(forget)
    switches, of_switches = gates[:, : 2 * width], out[:, : 2 * width]
    aten.sigmoid_backward(of_switches, switches, grad_input=of_switches)
    aten.tanh_backward(of_candidate, candidate, grad_input=of_candidate)
    aten.sigmoid_backward(of_show, show, grad_input=of_show)


def _outside(part: Tensor, lanes: Size) -> Tensor:
    """Return a view [*, T, ...] of [T, L, ...]."""
    part = part.transpose(0, 1)
    return part.reshape(*lanes, *part.shape[1:])


def _inside(part: Tensor, lanes: Size) -> Tensor:
    """Return a view [T, L, ...] of [*, T, ...]."""
    return part.reshape(lanes.numel(), *part.shape[len(lanes) :]).transpose(0, 1)
