"""A trained model with all it needs to answer for raw rows: scaler, encodings, class names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkstemp
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from trainers.config import ModelConfig, TrialConfig
from trainers.data import Dataset, Feature
from trainers.data.encoding import check_features, encode
from trainers.data.reading import channels_first
from trainers.errors import CheckpointError, ConfigError, DataError
from trainers.losses import LossKind, Task, resolve_loss
from trainers.models import build_model
from trainers.monte_carlo import Spread, check_drops, dropping, mean_and_std

FORMAT = "isoflop predictor 1"
ROWS_AT_ONCE = 4096
"""Rows per forward pass, so that memory does not grow with the table."""


class Predictor(nn.Module):
    """An `nn.Module` from raw rows to outputs; `predict` gives labels or numbers in own units.

    Shapes: N rows, C classes, K target columns.
    """

    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor

    def __init__(
        self,
        module: nn.Module,
        *,
        model: ModelConfig,
        loss: LossKind,
        task: Task,
        input_shape: tuple[int, ...],
        num_outputs: int,
        class_names: Sequence[str] = (),
        features: Sequence[Feature] = (),
    ) -> None:
        super().__init__()
        self.module = module
        self.model_config = model
        self.loss: LossKind = loss
        self.task: Task = task
        self.input_shape = tuple(input_shape)
        self.num_outputs = num_outputs
        self.class_names = tuple(class_names)
        self.features = tuple(features)
        self.register_buffer("x_mean", torch.zeros(self.input_shape))
        self.register_buffer("x_std", torch.ones(self.input_shape))
        self.register_buffer("y_mean", torch.zeros(num_outputs))
        self.register_buffer("y_std", torch.ones(num_outputs))
        self.eval()

    @classmethod
    def from_dataset(cls, module: nn.Module, config: TrialConfig, dataset: Dataset) -> Self:
        """Join a trained module with what its training data knows."""
        predictor = cls(
            module,
            model=config.model,
            loss=resolve_loss(config.train.loss, dataset.task),
            task=dataset.task,
            input_shape=dataset.input_shape,
            num_outputs=dataset.num_outputs,
            class_names=dataset.class_names,
            features=dataset.features,
        )
        predictor.x_mean.copy_(dataset.scaler.mean)
        predictor.x_std.copy_(dataset.scaler.std)
        if dataset.target_scaler is not None:
            predictor.y_mean.copy_(dataset.target_scaler.mean)
            predictor.y_std.copy_(dataset.target_scaler.std)
        device = next(module.parameters()).device
        return predictor.to(device)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [N, C], or numbers in their own units [N, K], for raw x [N, *shape]."""
        parameter = next(self.module.parameters())
        scaled = ((x - self.x_mean) / self.x_std).to(parameter.dtype)
        outputs: Tensor = self.module(scaled)
        return outputs * self.y_std + self.y_mean

    def predict(self, rows: Any) -> np.ndarray:
        """Return a label per row [N], or numbers [N] (one target column) or [N, K].

        A language model returns the likeliest next token at every position, [N, T].

        Args:
            rows: a DataFrame with the columns trained on, or anything numpy makes [N, ...] of.

        Raises:
            DataError: where the rows do not fit what the model was trained on.

        """
        outputs = self._outputs(rows)
        if self.task == "regression":
            return outputs[:, 0] if self.num_outputs == 1 else outputs
        labels: np.ndarray = self._labels()[outputs.argmax(axis=-1)]
        return labels

    def predict_proba(self, rows: Any) -> np.ndarray:
        """Return class probabilities [N, C] in the order of `class_names`.

        A language model returns those of the next token at every position, [N, T, C].

        Raises:
            ConfigError: for a model of numbers, or of classes trained by half_mse.
            DataError: as `predict`.

        """
        if self.task == "regression" or self.loss == "half_mse":
            raise ConfigError(
                "probabilities need a model of classes trained by cross_entropy, but this one is "
                f"of task {self.task}, trained by {self.loss}; use `predict`"
            )
        return torch.softmax(torch.from_numpy(self._outputs(rows)).double(), dim=-1).numpy()

    def predict_spread(self, rows: Any, passes: int = 50, seed: int = 0) -> Spread:
        """Return the mean and the spread of `passes` predictions with dropout on (lecture, p. 48).

        The same seed gives the same answer; normalisation stays in evaluation.

        Raises:
            ConfigError: for a model without dropout, or fewer than 2 passes.
            DataError: as `predict`.

        """
        check_drops(self.module, passes)
        gives_classes = self.task != "regression"

        def one_pass() -> Tensor:
            outputs = torch.from_numpy(self._outputs(rows, dropout=True)).double()
            is_logits = gives_classes and self.loss != "half_mse"
            return outputs.softmax(-1) if is_logits else outputs

        with dropping(self.module, seed):
            mean, std = mean_and_std(one_pass() for _ in range(passes))
        labels = self._labels()[mean.argmax(-1)] if gives_classes else mean
        if not gives_classes and self.num_outputs == 1:
            labels = mean[:, 0]
        return Spread(labels=labels, mean=mean, std=std, passes=passes)

    def save(self, path: str | Path) -> None:
        """Write one file, whole or not at all, that loads without running any code of its own."""
        path = Path(path)
        content = {
            "format": FORMAT,
            "model": self.model_config.model_dump(mode="json", exclude_unset=True),
            "loss": self.loss,
            "task": self.task,
            "input_shape": list(self.input_shape),
            "num_outputs": self.num_outputs,
            "class_names": list(self.class_names),
            "features": [[f.column, f.levels and list(f.levels)] for f in self.features],
            "state": {name: value.cpu() for name, value in self.state_dict().items()},
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """Read what `save` wrote; the module is rebuilt from its configuration.

        Raises:
            CheckpointError: where the file is missing, truncated or no predictor's.
            ConfigError: where the model's factory is not importable here.

        """
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch meets garbage with whatever error it runs into
            raise CheckpointError(
                f"`{path}` must be a file written by `Predictor.save`, but reading it raised "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise CheckpointError(
                f"`{path}` must be a file of format {FORMAT!r}, but is not; a pack's checkpoint is "
                "not a predictor: save the winner by `Predictor.save`"
            )
        return cls._rebuild(content, path).to(device)

    @classmethod
    def _rebuild(cls, content: dict[str, Any], path: str | Path) -> Self:
        model = ModelConfig.model_validate(content["model"])
        input_shape = tuple(content["input_shape"])
        module = build_model(model, input_shape, content["num_outputs"])
        state: dict[str, Tensor] = content["state"]
        weights = [value for name, value in state.items() if name.startswith("module.")]
        module.to(next(value.dtype for value in weights if value.is_floating_point()))
        predictor = cls(
            module,
            model=model,
            loss=content["loss"],
            task=content["task"],
            input_shape=input_shape,
            num_outputs=content["num_outputs"],
            class_names=content["class_names"],
            features=[
                Feature(column=column, levels=None if levels is None else tuple(levels))
                for column, levels in content["features"]
            ],
        )
        try:
            predictor.load_state_dict(state)
        except RuntimeError as error:  # what torch raises for missing or ill-shaped tensors
            raise CheckpointError(
                f"the weights in `{path}` must fit the model that its configuration builds, "
                f"but {error}; the factory may have changed since they were saved"
            ) from error
        return predictor

    def _outputs(self, rows: Any, dropout: bool = False) -> np.ndarray:
        """Return raw outputs; with `dropout`, modules stay in the modes that the caller set."""
        x = torch.from_numpy(self._raw_inputs(rows))
        if not dropout:
            self.eval()
        with torch.inference_mode():
            parts = [
                self(x[start : start + ROWS_AT_ONCE].to(self.x_mean.device)).cpu()
                for start in range(0, len(x), ROWS_AT_ONCE)
            ]
        return torch.cat(parts).numpy()

    def _raw_inputs(self, rows: Any) -> np.ndarray:
        """Return float32 [N, *input_shape] from a table, flat rows, or the data's own layout."""
        if hasattr(rows, "columns") and self.features:  # a table, by its column names
            return encode(rows, self.features)
        values = rows.detach().cpu().numpy() if isinstance(rows, Tensor) else np.asarray(rows)
        try:
            x = values.astype(np.float32)
        except (ValueError, TypeError) as error:
            raise DataError(f"rows must be numbers, but {error}; give a DataFrame") from error
        if x.ndim == 0 or not len(x) or x[0].size != self.x_mean.numel():
            raise self._misshapen(x)
        # Axes of length 1 (gray images without their channel) and flat rows are unambiguous.
        if x.ndim != 2 and _without_ones(x.shape[1:]) != _without_ones(self.input_shape):
            x, _ = channels_first(x)
            if x.shape[1:] != self.input_shape:
                raise self._misshapen(x)
        x = x.reshape(len(x), *self.input_shape)
        check_features(x, ["rows"])
        return x

    def _misshapen(self, x: np.ndarray) -> DataError:
        shape = ", ".join(map(str, self.input_shape))
        return DataError(f"rows must be [N, {shape}] with N >= 1, but have shape {x.shape}")

    def _labels(self) -> np.ndarray:
        """Return the classes [C]: integers where all their names are integers, else names."""
        if all(name.lstrip("-").isdigit() for name in self.class_names):
            return np.array([int(name) for name in self.class_names])
        return np.array(self.class_names)


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)
