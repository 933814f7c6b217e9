"""What the two tiers that run ordinary modules have in common."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from trainers.config import ModelConfig
from trainers.data import Dataset
from trainers.lanes.flat import FlatLayout
from trainers.lanes.prepared import PreparedModule, prepare
from trainers.losses import Loss, LossKind, loss_function, loss_rows_function
from trainers.models import build_model
from trainers.models.auxiliary import WithAuxiliaryLoss, take_auxiliary_loss
from trainers.trial import Trial

_ROWS_TO_WATCH = 2


class ModuleEngine:
    """Rows in the canonical layout, data in its own shape, one prepared module per model config.

    Args:
        config: The first lane's section `model`.
        dataset: On the CPU; for its shapes and a few rows.
        loss: Which loss is trained on.
        precision: float32, float64 or bf16 (parameters in float32, products in bfloat16).
    """

    def __init__(
        self, config: ModelConfig, dataset: Dataset, loss: LossKind, precision: str
    ) -> None:
        self._dataset = dataset
        self._dtype = torch.float64 if precision == "float64" else torch.float32
        self._precision = precision
        self._loss: Loss = loss_function(loss)
        self.loss_rows: Loss = loss_rows_function(loss)
        self._takes_smoothing = dataset.task != "regression"
        self._prepared: dict[str, PreparedModule] = {}
        first = self.prepared(config)
        self.canonical = self.layout = FlatLayout.of(first.module)
        self.dropout_shapes = first.dropout_shapes
        self.draws = first.draws

    def build(self, config: ModelConfig) -> nn.Module:
        """Return a fresh module in the dtype that is trained in, on the CPU."""
        dataset = self._dataset
        return build_model(config, dataset.input_shape, dataset.num_outputs).to(self._dtype)

    def prepared(self, config: ModelConfig) -> PreparedModule:
        """Return the prepared module of one model configuration; built once."""
        key = config.model_dump_json()
        if key not in self._prepared:
            rows = self._dataset.x_train[:_ROWS_TO_WATCH].cpu().to(self._dtype)
            self._prepared[key] = prepare(self.build(config), rows)
        return self._prepared[key]

    def dropout_rates(self, config: ModelConfig) -> list[float]:
        """Return one lane's rate for each dropout call."""
        return self.prepared(config).dropout_rates

    def to_canonical(self, rows: Tensor) -> Tensor:
        """Return a copy: the working layout is the canonical one."""
        return rows.clone()

    def from_canonical(self, rows: Tensor) -> Tensor:
        """Return a copy: the working layout is the canonical one."""
        return rows.clone()

    def own_buffers(self, trial: Trial) -> dict[str, Tensor]:
        """Return nothing: a module's own buffers are all there is."""
        return {}

    def inputs(self, x: Tensor) -> Tensor:
        """Return rows in their own shape, [N, *input_shape]."""
        return x.to(self._dtype).contiguous()

    def targets(self, y: Tensor) -> Tensor:
        """Return classes [N] or numbers [N, K]."""
        return y.to(self._dtype) if y.is_floating_point() else y

    def precision_context(self, device: torch.device) -> AbstractContextManager[object]:
        """Return autocast for bf16, else nothing."""
        if self._precision == "bf16":
            return torch.autocast(device.type, dtype=torch.bfloat16)
        return nullcontext()

    def loss(self, outputs: Tensor, target: Tensor, smoothing: float | Tensor) -> Tensor:
        """Return one lane's mean loss [] in the parameters' dtype."""
        if not self._takes_smoothing:
            smoothing = 0.0
        return self._loss(outputs.to(self._dtype), target, smoothing)

    def training_loss(
        self,
        outputs: Tensor,
        target: Tensor,
        smoothing: float | Tensor,
        layers: Iterable[WithAuxiliaryLoss],
    ) -> Tensor:
        """Return one lane's mean loss [] and what the module's layers add to it in training."""
        loss = self.loss(outputs, target, smoothing)
        added = take_auxiliary_loss(layers)
        return loss if added is None else loss + added.to(loss.dtype)
