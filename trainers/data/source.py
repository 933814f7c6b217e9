"""Raw rows before any split: what every reader and generator returns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainers.data.dataset import Feature
from trainers.losses import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """Unscaled rows: x float32 [N, *input_shape]; y int64 [N] (classes) or float32 [N, K].

    A language's source is one text: x uint8 [num_bytes] and no y; windows are cut from it later.
    """

    x: np.ndarray
    y: np.ndarray
    task: Task
    class_names: tuple[str, ...] = ()
    x_test: np.ndarray | None = None
    """The source's own test rows, where it ships some."""
    y_test: np.ndarray | None = None
    features: tuple[Feature, ...] = ()
    notes: dict[str, str] = field(default_factory=dict)
    """Choices made while reading, each with its reason, and where the data comes from."""

    @property
    def num_outputs(self) -> int:
        """Classes, target columns, or tokens."""
        return self.y.shape[1] if self.task == "regression" else len(self.class_names)

    @property
    def num_rows(self) -> int:
        """Rows, with the source's own test rows."""
        return len(self.x) + (0 if self.x_test is None else len(self.x_test))

    def sha256(self) -> str:
        """Hash every value, shape and name, so that equal hashes mean equal data."""
        digest = hashlib.sha256()
        for array in (self.x, self.y, self.x_test, self.y_test):
            if array is not None:
                digest.update(f"{array.dtype.str}{array.shape}".encode())
                digest.update(np.ascontiguousarray(array).data)
        digest.update(repr((self.task, self.class_names, self.features)).encode())
        return digest.hexdigest()

    def description(self) -> dict[str, Any]:
        """Return plain values for listings: rows, shape, task, classes, notes."""
        return {
            "rows": self.num_rows,
            "own_test_rows": 0 if self.x_test is None else len(self.x_test),
            "input_shape": list(self.x.shape[1:]),
            "task": self.task,
            "num_outputs": self.num_outputs,
            "classes": list(self.class_names),
            "features": [[f.column, f.levels and list(f.levels)] for f in self.features],
            "notes": dict(self.notes),
        }
