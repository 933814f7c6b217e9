"""A data set as a trial sees it: split, standardised, and with its test rows behind a door."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from trainers.errors import DataError
from trainers.losses import Task, resolve_loss


@dataclass(frozen=True, kw_only=True)
class Feature:
    """How one column of a table becomes features: a number, or one 0/1 feature per level."""

    column: str
    levels: tuple[str, ...] | None = None
    """The levels of a one-hot encoded text column, in feature order; None: a number."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaler:
    """Per-feature standardisation, (x - mean) / std, fitted on training rows only.

    A feature that never varies has std 1, so that it becomes 0 and not NaN.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        """Fit to rows x [N, *shape]; the sums are made in float64."""
        mean = x.mean(axis=0, dtype=np.float64)
        std = x.std(axis=0, dtype=np.float64)
        # Rounding gives a constant feature a tiny std, and dividing by it would blow noise up.
        varies = std > 1e-6 * np.maximum(np.abs(mean), 1e-30)
        return cls(
            mean=torch.from_numpy(np.asarray(mean, dtype=np.float32)),
            std=torch.from_numpy(np.where(varies, std, 1.0).astype(np.float32)),
        )

    @classmethod
    def identity(cls, shape: tuple[int, ...]) -> Self:
        """Return the scaler that changes nothing."""
        return cls(mean=torch.zeros(shape), std=torch.ones(shape))

    def apply(self, x: Tensor) -> Tensor:
        """Standardise x [N, *shape]."""
        return (x - self.mean.to(x)) / self.std.to(x)

    def undo(self, x: Tensor) -> Tensor:
        """Return standardised x [N, *shape] to its own units."""
        return x * self.std.to(x) + self.mean.to(x)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Rows to train on, to validate on, and, through `test()` only, to test on.

    Shapes: N rows of a part, K target columns. x is float32 [N, *input_shape], standardised
    where the configuration says so; y is int64 [N] for classes and float32 [N, K] for numbers.
    Numbers are standardised as x is, so losses are in units of the training targets' standard
    deviation; `target_scaler` takes them back. A language has windows of T tokens: x holds them
    as numbers, never standardised, and y, int64 [N, T], the token after each.
    """

    name: str
    task: Task
    input_shape: tuple[int, ...]
    """(features,) for tables, (channels, length) for signals, (channels, height, width) for
    images, (context,) for a language."""
    num_outputs: int
    """Classes, target columns, or tokens."""
    x_train: Tensor
    y_train: Tensor
    x_val: Tensor
    y_val: Tensor
    class_names: tuple[str, ...]
    scaler: Scaler
    target_scaler: Scaler | None
    """For numbers: mean and std of each target column [K]; None for classes."""
    features: tuple[Feature, ...]
    """How a table's columns become features; empty for arrays."""
    sha256: str
    """Of the source's rows and of everything in `DataConfig`: equal data, equal split."""
    num_rows: int
    """Rows of the source, all parts together."""
    _x_test: Tensor
    _y_test: Tensor

    def test(self) -> tuple[Tensor, Tensor]:
        """Return the test rows (x, y): for finalists only; the caller counts each look."""
        return self._x_test, self._y_test

    def part(self, name: Literal["train", "val", "test"]) -> tuple[Tensor, Tensor]:
        """Return (x, y) of one part; `test` is `test()`."""
        if name == "test":
            return self.test()
        if name == "train":
            return self.x_train, self.y_train
        return self.x_val, self.y_val

    @property
    def num_train(self) -> int:
        """Rows that are trained on."""
        return len(self.x_train)

    @property
    def num_features(self) -> int:
        """Numbers in one row: the product of `input_shape`."""
        return math.prod(self.input_shape)

    def to(self, device: str | torch.device, dtype: torch.dtype = torch.float32) -> Dataset:
        """Return a copy on a device; x and numeric targets in `dtype`, classes stay int64."""

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

        values: dict[str, Any] = {name: moved(getattr(self, name)) for name in _TENSORS}
        return replace(self, **values)

    def dummy_loss(self, loss: Literal["auto", "cross_entropy", "half_mse"] = "auto") -> float:
        """Loss of the best constant answer that knows nothing of a row.

        ln C for C equally likely classes or tokens under cross-entropy (lecture, p. 61). Under
        half_mse it is half the variance of the training targets, summed over columns, which is
        what answering their mean costs; for classes the targets are one-hot.
        """
        if resolve_loss(loss, self.task) != "half_mse":
            return math.log(self.num_outputs)
        if self.task == "classification":
            share = torch.bincount(self.y_train, minlength=self.num_outputs).double()
            share /= len(self.y_train)
            return 0.5 * float((share * (1 - share)).sum())
        return 0.5 * float(self.y_train.double().var(dim=0, correction=0).sum())

    def to_arrays(self) -> dict[str, Any]:
        """Return numpy arrays (sharing memory) and plain values: what an object store ships."""
        payload: dict[str, Any] = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name not in (*_TENSORS, "scaler", "target_scaler", "features")
        }
        payload |= {name: getattr(self, name).cpu().numpy() for name in _TENSORS}
        payload["features"] = [(feature.column, feature.levels) for feature in self.features]
        for name in ("scaler", "target_scaler"):
            scaler: Scaler | None = getattr(self, name)
            payload[name] = scaler and {"mean": scaler.mean.numpy(), "std": scaler.std.numpy()}
        return payload

    @classmethod
    def from_arrays(cls, payload: Mapping[str, Any]) -> Self:
        """Rebuild from `to_arrays`, sharing the arrays' memory (read-only in an object store)."""
        values = dict(payload)
        values |= {name: _shared_tensor(values[name]) for name in _TENSORS}
        values["features"] = tuple(
            Feature(column=column, levels=levels) for column, levels in values["features"]
        )
        for name in ("scaler", "target_scaler"):
            arrays = values[name]
            values[name] = arrays and Scaler(
                mean=_shared_tensor(arrays["mean"]), std=_shared_tensor(arrays["std"])
            )
        return cls(**values)


_TENSORS = ("x_train", "y_train", "x_val", "y_val", "_x_test", "_y_test")


def check_batch(dataset: Dataset, batch_size: int) -> None:
    """Raise DataError where a batch would hold more rows than there are to train on."""
    if batch_size > dataset.num_train:
        raise DataError(
            f"`train.batch_size` must be <= the training rows, but got {batch_size} and "
            f"{dataset.num_train} rows of `{dataset.name}`; lower `train.batch_size`"
            " or raise `data.num_train`"
        )


def _shared_tensor(array: np.ndarray) -> Tensor:
    with warnings.catch_warnings():
        # An object store's arrays are read-only, and nothing here writes to data.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
