"""The `lane_by_lane` tier: the lanes' ordinary modules, one after the other.

It makes no assumption about a model but that it is an `nn.Module`, so it is what the others fall
back to. Parameters, gradients and buffers are views of the lanes' flat rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainers.config import ModelConfig
from trainers.lanes.engine import LaneBuffers
from trainers.lanes.module_engine import ModuleEngine
from trainers.lanes.prepared import dropouts_of, masks_from, prepare
from trainers.models.auxiliary import layers_with_auxiliary_loss


class LaneByLane(ModuleEngine):
    """Everything that is the same for all groups of a pack."""

    tier = "lane_by_lane"

    def bind(
        self,
        params: Tensor,
        grads: Tensor,
        buffers: LaneBuffers,
        configs: Sequence[ModelConfig],
        smoothing: Sequence[float],
    ) -> BoundModules:
        """Return W modules whose tensors are views of the lanes' rows."""
        modules = [self._module_on_rows(config, params.device) for config in configs]
        values, slopes = self.layout.views(params), self.layout.views(grads)
        for lane, module in enumerate(modules):
            for name, parameter in module.named_parameters():
                parameter.data = values[name][lane]
                parameter.grad = slopes[name][lane]
        return BoundModules(self, modules, grads, buffers, smoothing)

    def _module_on_rows(self, config: ModelConfig, device: torch.device) -> nn.Module:
        module = self.build(config)
        rows = self._dataset.x_train[:2].cpu().to(self._dtype)
        return prepare(module, rows).module.to(device)


class BoundModules:
    """One module per lane."""

    def __init__(
        self,
        engine: LaneByLane,
        modules: Sequence[nn.Module],
        grads: Tensor,
        buffers: LaneBuffers,
        smoothing: Sequence[float],
    ) -> None:
        self._engine = engine
        self._modules = list(modules)
        # Going through a module's parts takes as long as several of its kernels: once is enough.
        self._dropouts = [dropouts_of(module) for module in modules]
        self._with_auxiliary = [layers_with_auxiliary_loss(module) for module in modules]
        self._grads = grads
        self._smoothing = list(smoothing)
        self._owners = [
            [
                (self._owner(module, name), name.rpartition(".")[2], rows[lane])
                for name, rows in buffers.items()
            ]
            for lane, module in enumerate(self._modules)
        ]
        for lane in range(len(self._modules)):
            self._attach_buffers(lane)

    @staticmethod
    def _owner(module: nn.Module, name: str) -> nn.Module:
        return module.get_submodule(name.rpartition(".")[0])

    def _attach_buffers(self, lane: int) -> None:
        for owner, name, row in self._owners[lane]:
            owner._buffers[name] = row

    def _keep_reassigned_buffers(self, lane: int) -> None:
        """Copy a buffer that the forward pass replaced (`self.n = self.n + 1`) into its row."""
        for owner, name, row in self._owners[lane]:
            present = owner._buffers[name]
            if present is not None and present.data_ptr() != row.data_ptr():
                row.copy_(present)
                owner._buffers[name] = row

    def gradients(
        self, x: Tensor, target: Tensor, masks: Sequence[Tensor], seeds: Sequence[int] = ()
    ) -> Tensor:
        """Write gradients into the flat rows; return losses [W]. See `BoundLanes`."""
        self._grads.zero_()
        losses = []
        for lane, module in enumerate(self._modules):
            if not module.training:
                module.train()
            own_masks = [mask[lane] for mask in masks]
            with torch.enable_grad(), masks_from(self._dropouts[lane], own_masks):
                if seeds:
                    with torch.random.fork_rng():
                        torch.manual_seed(seeds[lane])
                        loss = self._loss(lane, x[lane], target[lane])
                else:
                    loss = self._loss(lane, x[lane], target[lane])
                loss.backward()  # type: ignore[no-untyped-call]
            self._keep_reassigned_buffers(lane)
            losses.append(loss.detach())
        return torch.stack(losses)

    def _loss(self, lane: int, x: Tensor, target: Tensor) -> Tensor:
        with self._engine.precision_context(x.device):
            outputs = self._modules[lane](x)
        return self._engine.training_loss(
            outputs, target, self._smoothing[lane], self._with_auxiliary[lane]
        )

    def outputs(self, x: Tensor) -> Tensor:
        """Return outputs in evaluation, [W, N, num_outputs]. See `BoundLanes`."""
        results = []
        for lane, module in enumerate(self._modules):
            if module.training:
                module.eval()
            with torch.no_grad(), self._engine.precision_context(x.device):
                results.append(module(x))
            self._keep_reassigned_buffers(lane)
        return torch.stack(results).to(self._grads.dtype)

    def evaluate(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs [W, N, num_outputs] and each row's loss [W, N]. See `BoundLanes`."""
        outputs = self.outputs(x)
        return outputs, self._engine.loss_rows(outputs, target, 0.0)
