"""The `vmap` tier: one module's code over stacked parameters, by `torch.func.vmap`.

vmap over modules is silently wrong in places (see `probe`), so this tier runs only after the probe
has compared it with modules alone. Two things that vmap would take from the first lane come from
outside instead: dropout masks, and the momentum of running statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from trainers.config import ModelConfig
from trainers.lanes.engine import LaneBuffers
from trainers.lanes.lane_layers import BatchNorms, exchange_layers, outside_vmap
from trainers.lanes.module_engine import ModuleEngine
from trainers.lanes.prepared import dropouts_of, masks_from
from trainers.models.auxiliary import layers_with_auxiliary_loss


class LaneBatchNorm(nn.Module):
    """Batch normalisation whose momentum is a tensor, so that each lane can have its own.

    It takes over the parameters and buffers of a `nn.BatchNorm*d`, under the same names.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    one_by_one = False
    """Whether torch's kernel runs lane after lane, which is quicker on a CPU (`lane_layers`)."""

    def __init__(self, norm: nn.modules.batchnorm._BatchNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)
        self.lane_momentum = torch.tensor(norm.momentum)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [B, C, *] over all dimensions but the channels'."""
        if self.one_by_one:
            if self.training:
                self.num_batches_tracked.add_(1)
            statistics = (self.running_mean, self.running_var, self.lane_momentum)
            return outside_vmap(self._lanes, x, self.weight, self.bias, *statistics)
        shape = (1, -1, *[1] * (x.dim() - 2))
        mean, var = self.running_mean, self.running_var
        if self.training:
            dims = [0, *range(2, x.dim())]
            mean, var = x.mean(dims), x.var(dims, correction=0)
            count = x.numel() // x.shape[1]
            unbiased = var.detach() * (count / max(count - 1, 1))
            momentum = self.lane_momentum.to(mean)
            self.running_mean.mul_(1 - momentum).add_(momentum * mean.detach())
            self.running_var.mul_(1 - momentum).add_(momentum * unbiased)
            self.num_batches_tracked.add_(1)
        x = (x - mean.view(shape)) * (var + self.eps).rsqrt().view(shape)
        if self.weight is None:
            return x
        return x * self.weight.view(shape) + self.bias.view(shape)

    def _lanes(
        self,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        momenta: Tensor,
    ) -> Tensor:
        """Normalise x [W, B, C, *], each lane by itself."""
        own = (weight, bias, mean, var, momenta.tolist())
        out: Tensor = BatchNorms.apply(x, *own, self.training, self.eps)  # type: ignore[no-untyped-call]
        return out


def _stackable(module: nn.Module, one_by_one: bool) -> nn.Module:
    """Return a copy whose batch normalisations take their momentum from outside.

    With `one_by_one` its layers run as `lane_layers` does them.
    `copy.deepcopy` keeps tied weights tied; a following `.to("meta")` would untie them.
    """
    twin = copy.deepcopy(module)
    for parent in list(twin.modules()):
        for name, child in list(parent.named_children()):
            if _is_tracking_norm(child):
                norm = LaneBatchNorm(child)  # type: ignore[arg-type]
                norm.one_by_one = one_by_one
                setattr(parent, name, norm)
    if one_by_one:
        exchange_layers(twin)
    return twin


def _is_tracking_norm(module: nn.Module) -> bool:
    return (
        type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
        and module.momentum is not None
        and bool(module.track_running_stats)
    )


def _momenta(module: nn.Module) -> list[float]:
    norms = [part for part in module.modules() if _is_tracking_norm(part)]
    return [float(norm.momentum) for norm in norms]  # type: ignore[arg-type]


class VmapEngine(ModuleEngine):
    """Everything that is the same for all groups of a pack."""

    tier = "vmap"
    template: nn.Module | None = None
    """The module whose code all lanes run; made of the first lane's."""

    def bind(
        self,
        params: Tensor,
        grads: Tensor,
        buffers: LaneBuffers,
        configs: Sequence[ModelConfig],
        smoothing: Sequence[float],
    ) -> BoundVmap:
        """Return functions over the lanes' stacked rows."""
        if self.template is None:
            # A GPU wants few large calls, and autocast does not reach into the lanes' own calls.
            one_by_one = params.device.type == "cpu" and self._precision != "bf16"
            self.template = _stackable(self.prepared(configs[0]).module, one_by_one)
        momenta = [_momenta(self.prepared(config).module) for config in configs]
        return BoundVmap(self, self.template, params, grads, buffers, momenta, smoothing)


class BoundVmap:
    """One module's code over W lanes."""

    def __init__(
        self,
        engine: VmapEngine,
        template: nn.Module,
        params: Tensor,
        grads: Tensor,
        buffers: LaneBuffers,
        momenta: Sequence[Sequence[float]],
        smoothing: Sequence[float],
    ) -> None:
        self._engine, self._template = engine, template.to(params.device)
        self._params = engine.layout.views(params)
        self._grads = engine.layout.views(grads)
        self._buffers = dict(buffers)
        self._dropouts = dropouts_of(template)
        self._with_auxiliary = layers_with_auxiliary_loss(template)
        self._norms = [part for part in template.modules() if isinstance(part, LaneBatchNorm)]
        self._momenta = torch.tensor(momenta, dtype=torch.float64).to(params)  # [W, norms]
        self._smoothing = torch.tensor(smoothing, dtype=torch.float64).to(params)  # [W]
        self._losses = vmap(self._loss, randomness="error")
        self._outputs: Callable[..., Tensor] = vmap(
            self._output, in_dims=(0, 0, None), randomness="error"
        )

    def _output(self, params: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor) -> Tensor:
        """Return one lane's outputs."""
        outputs: Tensor = functional_call(self._template, (params, buffers), (x,))
        return outputs

    def _loss(
        self,
        params: dict[str, Tensor],
        buffers: dict[str, Tensor],
        x: Tensor,
        target: Tensor,
        masks: Sequence[Tensor],
        momenta: Tensor,
        smoothing: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return one lane's loss and its buffers after the pass."""
        for index, norm in enumerate(self._norms):
            norm.lane_momentum = momenta[index]
        with masks_from(self._dropouts, masks), self._engine.precision_context(x.device):
            outputs = functional_call(self._template, (params, buffers), (x,))
        loss = self._engine.training_loss(outputs, target, smoothing, self._with_auxiliary)
        return loss, buffers

    def gradients(
        self, x: Tensor, target: Tensor, masks: Sequence[Tensor], seeds: Sequence[int] = ()
    ) -> Tensor:
        """Write gradients into the flat rows; return losses [W]. See `BoundLanes`."""
        self._template.train()
        leaves = {name: rows.detach().requires_grad_() for name, rows in self._params.items()}
        with torch.enable_grad():
            losses, buffers = self._losses(
                leaves,
                {name: rows.clone() for name, rows in self._buffers.items()},
                x,
                target,
                tuple(masks),
                self._momenta,
                self._smoothing,
            )
            # Each lane's loss depends on its own parameters only, so their sum's gradients are
            # the lanes' own. Autograd around vmap costs less than `torch.func.grad` within it.
            grads = torch.autograd.grad(losses.sum(), list(leaves.values()), allow_unused=True)
        for view, grad in zip(self._grads.values(), grads, strict=True):
            if grad is None:
                view.zero_()
            else:
                view.copy_(grad)
        for name, rows in self._buffers.items():
            rows.copy_(buffers[name])
        detached: Tensor = losses.detach()
        return detached

    def outputs(self, x: Tensor) -> Tensor:
        """Return outputs in evaluation, [W, N, num_outputs]. See `BoundLanes`."""
        self._template.eval()
        with torch.no_grad(), self._engine.precision_context(x.device):
            outputs = self._outputs(self._params, self._buffers, x)
        return outputs.to(self._momenta.dtype)

    def evaluate(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs [W, N, num_outputs] and each row's loss [W, N]. See `BoundLanes`."""
        outputs = self.outputs(x)
        return outputs, self._engine.loss_rows(outputs, target, 0.0)
