"""Data sets that need no registering: from scikit-learn, from a generator, or from IDX files."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.idx import load_idx_set
from trainers.data.mnist1d import make_mnist1d
from trainers.data.source import Source
from trainers.data.stdlib_bytes import load_stdlib_bytes, load_stdlib_text

LARGE_TRAIN, LARGE_TEST = 100_000, 10_000
"""Rows of mnist1d-100k, for studies of scale: a pass over the usual 4,000 is soon over."""
MOONS_SEED, MOONS_ROWS, MOONS_NOISE = 0, 1000, 0.2


def load_digits() -> Source:
    """1,797 handwritten digits [1, 8, 8], values 0 to 16 (UCI, through scikit-learn)."""
    # Read from scikit-learn's own folder: importing it would take a second of every start.
    spec = find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        table = np.loadtxt(lines, delimiter=",")  # [1797, 64 pixels and the class]
    images = table[:, :-1].reshape(-1, 1, 8, 8)
    return _classes(images, table[:, -1].astype(int), np.arange(10), "UCI digits")


def load_breast_cancer() -> Source:
    """569 x 30 measurements, 2 classes (UCI, through scikit-learn)."""
    bunch = _sklearn().load_breast_cancer()
    return _classes(bunch.data, bunch.target, bunch.target_names, "UCI breast cancer (Wisconsin)")


def load_wine() -> Source:
    """178 x 13 measurements, 3 classes (UCI, through scikit-learn)."""
    bunch = _sklearn().load_wine()
    return _classes(bunch.data, bunch.target, bunch.target_names, "UCI wine")


def load_diabetes() -> Source:
    """442 x 10 measurements and a number, disease progression (Efron et al., 2004)."""
    bunch = _sklearn().load_diabetes(scaled=False)
    return Source(
        x=bunch.data.astype(np.float32),
        y=bunch.target.astype(np.float32)[:, None],
        task="regression",
        notes={"origin": "diabetes (Efron et al., 2004), through scikit-learn"},
    )


def make_moons() -> Source:
    """1,000 points of two interleaved half circles, made from a fixed seed."""
    x, y = _sklearn().make_moons(MOONS_ROWS, noise=MOONS_NOISE, random_state=MOONS_SEED)
    origin = f"scikit-learn's make_moons, noise {MOONS_NOISE}, seed {MOONS_SEED}"
    return _classes(x, y, np.array(["upper", "lower"]), origin)


LOADERS: dict[str, Callable[[], Source]] = {
    "digits": load_digits,
    "mnist1d": make_mnist1d,
    "mnist1d-100k": partial(make_mnist1d, LARGE_TRAIN, LARGE_TEST),
    "mnist": partial(load_idx_set, "mnist"),
    "fashion_mnist": partial(load_idx_set, "fashion_mnist"),
    "breast_cancer": load_breast_cancer,
    "wine": load_wine,
    "diabetes": load_diabetes,
    "moons": make_moons,
    "stdlib-bytes": load_stdlib_bytes,
    "stdlib-bytes-8m": load_stdlib_text,
}
"""By name; those from IDX files raise DataError where the files are missing."""

BUILT_IN: dict[str, str] = {
    "digits": "classification: 1,797 images 8 x 8, 10 classes",
    "mnist1d": "classification: 5,000 signals of 40 points, 10 classes",
    "mnist1d-100k": "classification: 110,000 signals of 40 points, 10 classes",
    "mnist": "classification: 70,000 images 28 x 28, 10 classes (needs its files)",
    "fashion_mnist": "classification: 70,000 images 28 x 28, 10 classes (needs its files)",
    "breast_cancer": "classification: 569 rows of 30, 2 classes",
    "wine": "classification: 178 rows of 13, 3 classes",
    "diabetes": "regression: 442 rows of 10",
    "moons": "classification: 1,000 points in the plane, 2 classes",
    "stdlib-bytes": "language: 1 MiB of Python's own library, cut into windows of `data.context`",
    "stdlib-bytes-8m": "language: 8 MiB of Python's library, its packages included",
}
"""One line about each, for listings."""


def _sklearn() -> Any:
    """Import scikit-learn only when one of its sets is asked for: it costs most of a second."""
    from sklearn import datasets

    return datasets


def _classes(x: np.ndarray, y: np.ndarray, names: np.ndarray, origin: str) -> Source:
    return Source(
        x=np.ascontiguousarray(x, dtype=np.float32),
        y=y.astype(np.int64),
        task="classification",
        class_names=tuple(str(name) for name in names),
        notes={"origin": origin},
    )
