"""Torch's layers for the lanes of a pack on a CPU: what the `vmap` tier runs in their places.

`torch.func.vmap` takes these layers apart: an affine map becomes a product and a sum, a
normalisation a dozen elementwise passes, and W convolutions one grouped convolution, whose
backward is slower than theirs one by one. On a CPU nothing is gained by that, because one lane's
layer is work enough for a call. So these leave vmap, do W products in one call or run torch's own
kernels lane after lane, without modules and autograd around each, and enter vmap again. They call
the kernels that a module alone calls on the same numbers, so their rounding is the same, too.

Shapes: W lanes, B rows, C channels, I inputs and O outputs of a product, `*` anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import _functorch
from torch._functorch.pyfunctorch import (
    VmapInterpreter,
    retrieve_current_functorch_interpreter,
)
from torch.autograd import Function
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


def outside_vmap(compute: Callable[..., Tensor], *tensors: Tensor | None) -> Tensor:
    """Return one lane's part of compute(stacked tensors [W, ...]), which returns [W, ...].

    The public way, a `Function` with a rule for vmap, does the same through several layers of
    Python that take as long as one lane of a small layer. What stands here instead is how torch
    itself applies such a rule; were it to change, the probe would fall back to lane by lane.
    """
    interpreter = retrieve_current_functorch_interpreter()
    assert isinstance(interpreter, VmapInterpreter), "these layers stand in the vmap tier only"
    stacked = [_lanes_first(tensor, interpreter.batch_size()) for tensor in tensors]
    with interpreter.lower():
        result = compute(*stacked)
    return _functorch._add_batch_dim(result, 0, interpreter.level())


def _lanes_first(tensor: Tensor | None, num_lanes: int) -> Tensor | None:
    """Return what a tensor that vmap shows stands for, [W, ...]."""
    if tensor is None:
        return None
    if not _functorch.is_batchedtensor(tensor):  # all lanes see the same
        return tensor.expand(num_lanes, *tensor.shape)
    return _functorch.get_unwrapped(tensor).movedim(_functorch.maybe_get_bdim(tensor), 0)


def _each(rows: Tensor | None, num_lanes: int) -> Sequence[Tensor | None]:
    """Return every lane's own tensor, or None for each."""
    return [None] * num_lanes if rows is None else rows.unbind()


def _stacked_or_none(lanes: Sequence[Sequence[Any]]) -> list[Tensor | None]:
    """Return each of the lanes' results stacked, [W, ...], and None where it was not wanted."""
    return [None if parts[0] is None else torch.stack(parts) for parts in zip(*lanes, strict=True)]


class LaneLinear(nn.Linear):
    """`nn.Linear` whose lanes are one call, the bias within it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [*, O] for x [*, I]."""
        return outside_vmap(_linear, x, self.weight, self.bias)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x weight^T + bias, [W, *, O], for x [W, *, I], weight [W, O, I], bias [W, O]."""
    rows = x.reshape(len(x), -1, x.shape[-1])
    if bias is None:
        out = torch.bmm(rows, weight.mT)
    else:
        out = torch.baddbmm(bias.unsqueeze(1), rows, weight.mT)
    return out.view(*x.shape[:-1], weight.shape[1])


class _LaneConv(nn.modules.conv._ConvNd):
    """A convolution, its lanes one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, O, *] for x [B, C, *]."""
        return outside_vmap(self._stacked, x, self.weight, self.bias)

    def _stacked(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        geometry = (self.stride, self.padding, self.dilation, False, self.output_padding)
        out: Tensor = _Convolutions.apply(x, weight, bias, (*geometry, self.groups))  # type: ignore[no-untyped-call]
        return out


class LaneConv1d(_LaneConv, nn.Conv1d):
    """`nn.Conv1d`, its lanes one after the other."""


class LaneConv2d(_LaneConv, nn.Conv2d):
    """`nn.Conv2d`, its lanes one after the other."""


class _Convolutions(Function):
    """x [W, B, C, *], weight [W, O, C, *], bias [W, O] -> [W, B, O, *]."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: tuple[Any, ...]
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.has_bias = geometry, bias is not None
        lanes = zip(x, weight, _each(bias, len(x)), strict=True)
        return torch.stack([aten.convolution(*lane, *geometry) for lane in lanes])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[0], True, ctx.has_bias)
        bias_sizes = [weight.shape[1]] if ctx.has_bias else None
        lanes = [
            aten.convolution_backward(*lane, bias_sizes, *ctx.geometry, wanted)
            for lane in zip(slopes, x, weight, strict=True)
        ]
        return (*_stacked_or_none(lanes), None)


class LaneLayerNorm(nn.LayerNorm):
    """`nn.LayerNorm`, its lanes one after the other."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the same shape as x."""
        return outside_vmap(self._stacked, x, self.weight, self.bias)

    def _stacked(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        out: Tensor = _LayerNorms.apply(x, weight, bias, list(self.normalized_shape), self.eps)  # type: ignore[no-untyped-call]
        return out


class _LayerNorms(Function):
    """x [W, *, *sizes], weight and bias [W, *sizes] -> the shape of x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        sizes: list[int],
        eps: float,
    ) -> Tensor:
        lanes = [
            aten.native_layer_norm(own, sizes, its_weight, its_bias, eps)
            for own, its_weight, its_bias in zip(
                x, _each(weight, len(x)), _each(bias, len(x)), strict=True
            )
        ]
        ctx.sizes, ctx.moments = sizes, [(mean, rstd) for _, mean, rstd in lanes]
        ctx.save_for_backward(x, weight, bias)
        return torch.stack([normalised for normalised, _, _ in lanes])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        wanted = (ctx.needs_input_grad[0], weight is not None, bias is not None)
        lanes = [
            aten.native_layer_norm_backward(
                slope, own, ctx.sizes, *moments, its_weight, its_bias, wanted
            )
            for slope, own, moments, its_weight, its_bias in zip(
                slopes, x, ctx.moments, _each(weight, len(x)), _each(bias, len(x)), strict=True
            )
        ]
        return (*_stacked_or_none(lanes), None, None)


class BatchNorms(Function):
    """Batch normalisation of x [W, B, C, *]; running statistics [W, C] move in place.

    Args of `apply`: x, weight and bias [W, C] or None, running mean and variance [W, C], each
    lane's momentum, whether training, and the number added to variances.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        momenta: Sequence[float],
        training: bool,
        eps: float,
    ) -> Tensor:
        """Return the shape of x."""
        tensors = (x, _each(weight, len(x)), _each(bias, len(x)), mean, var)
        lanes = [
            aten.native_batch_norm(*lane, training, momentum, eps)
            for *lane, momentum in zip(*tensors, momenta, strict=True)
        ]
        ctx.training, ctx.eps = training, eps
        ctx.moments = [(own_mean, own_rstd) for _, own_mean, own_rstd in lanes]
        ctx.save_for_backward(x, weight)
        return torch.stack([normalised for normalised, _, _ in lanes])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slopes: Tensor) -> tuple[Tensor | None, ...]:
        """Return slopes of x, weight and bias."""
        x, weight = ctx.saved_tensors
        affine = weight is not None
        wanted = (ctx.needs_input_grad[0], affine, affine)
        lanes = [
            aten.native_batch_norm_backward(
                slope, own, its_weight, None, None, *moments, ctx.training, ctx.eps, wanted
            )
            for slope, own, its_weight, moments in zip(
                slopes, x, _each(weight, len(x)), ctx.moments, strict=True
            )
        ]
        return (*_stacked_or_none(lanes), None, None, None, None, None)


_TWINS: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: LaneLinear,
    nn.Conv1d: LaneConv1d,
    nn.Conv2d: LaneConv2d,
    nn.LayerNorm: LaneLayerNorm,
}


def exchange_layers(template: nn.Module) -> None:
    """Let a template's layers be computed outside vmap, in place.

    A layer keeps its tensors and attributes, and stays an instance of what it was, for code that
    asks. Layers of classes derived from torch's are left alone: their `forward` may do more.
    """
    for part in template.modules():
        if runs_outside_vmap(part):
            part.__class__ = _TWINS[type(part)]


def runs_outside_vmap(part: nn.Module) -> bool:
    """Say whether a layer is one of torch's that has a twin here, without hooks or odd padding."""
    padding = getattr(part, "padding", ())
    zeros = getattr(part, "padding_mode", "zeros") == "zeros" and not isinstance(padding, str)
    return (
        type(part) in _TWINS and zeros and not part._forward_hooks and not part._forward_pre_hooks
    )
