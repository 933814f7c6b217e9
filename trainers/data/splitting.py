"""Which rows are trained on, validated on and tested on, by seed."""

from __future__ import annotations

import numpy as np

from trainers.config import DataConfig
from trainers.data.source import Source
from trainers.errors import DataError


def split_rows(
    source: Source, config: DataConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return row numbers of `source.x` for training, validation and testing, each shuffled.

    Classes are stratified: each part holds its share of every class to within a row or two. The
    test part is None where the source ships its own test rows; `val_fraction` is then a
    share of the other rows. The test part is drawn first, so it does not depend on
    `val_fraction` or `num_train`.

    Raises:
        DataError: where a part would be empty, or `num_train` exceeds the training rows.

    """
    rng = np.random.Generator(np.random.Philox(key=config.split_seed % 2**128))
    rows = rng.permutation(len(source.x))
    test: np.ndarray | None = None
    val_share = config.val_fraction
    if source.x_test is None:
        rows, test = _take_share(rows, source, config.test_fraction)
        test = rng.permutation(test)
        val_share = config.val_fraction / (1 - config.test_fraction)
    train, val = _take_share(rows, source, val_share)
    for name, part in (("training", train), ("validation", val), ("test", test)):
        if part is not None and not len(part):
            raise DataError(
                f"every part of the data needs a row, but `{config.name}` has {len(source.x)} rows "
                f"and the {name} part would be empty; give more rows or other "
                "`data.val_fraction` and `data.test_fraction`"
            )
    if config.num_train is not None and config.num_train > len(train):
        raise DataError(
            f"`data.num_train` must be <= {len(train)}, the training rows of `{config.name}`, "
            f"but got {config.num_train}; lower it or leave it out"
        )
    val = rng.permutation(val)
    return rng.permutation(train)[: config.num_train], val, test


def _take_share(rows: np.ndarray, source: Source, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Split shuffled rows into (kept, taken), taking every (1 / share)-th row, class by class.

    Sorted by class, row i is taken where floor((i + 1) * share) exceeds floor(i * share): that
    takes floor(N * share) rows in all and the right number of each class, to within one.
    """
    if source.task == "classification":
        rows = rows[np.argsort(source.y[rows], kind="stable")]
    # The tolerance keeps e.g. 10 * (0.2 / (1 - 0.8)) from being rounded down to 9.
    steps = np.floor(np.arange(len(rows) + 1) * share + 1e-9)
    taken = np.diff(steps) > 0
    return rows[~taken], rows[taken]
