"""A text cut into windows of context, each position's target being the byte that follows it.

Shapes: N windows, T bytes of context.
"""

from __future__ import annotations

import numpy as np

from trainers.config import DataConfig
from trainers.data.source import Source
from trainers.errors import DataError

DEFAULT_CONTEXT = 64
Windows = tuple[np.ndarray, np.ndarray]
"""x float32 [N, T], bytes written as numbers; y int64 [N, T], the bytes that follow them."""


def split_windows(source: Source, config: DataConfig) -> tuple[Windows, Windows, Windows]:
    """Return windows to train on, to validate on and to test on.

    The parts are stretches of the text, by offset: neighbouring windows share words and
    indentation, so windows drawn at random would let a model look up its validation text.
    `split_seed` turns the text before it is cut (0: not at all), so that other stretches are
    held out. Windows do not overlap: every byte is the target of one position only.

    Raises:
        DataError: where a part would be empty, or `num_train` exceeds the training windows.

    """
    context = DEFAULT_CONTEXT if config.context is None else config.context
    x, y = _cut(source.x, context)
    num_rows = len(x)
    if config.split_seed:
        shift = np.random.Generator(np.random.Philox(key=config.split_seed)).integers(num_rows)
        x, y = np.roll(x, -shift, axis=0), np.roll(y, -shift, axis=0)
    num_val, num_test = (int(num_rows * s) for s in (config.val_fraction, config.test_fraction))
    num_train = num_rows - num_val - num_test
    if min(num_train, num_val, num_test) < 1:
        raise DataError(
            f"every part of the text needs a window, but {len(source.x)} bytes of `{config.name}` "
            f"make {num_rows} windows of {context}, so {num_train} to train on, {num_val} to "
            f"validate on and {num_test} to test on; lower `data.context` or change the fractions"
        )
    kept = num_train if config.num_train is None else config.num_train
    if kept > num_train:
        raise DataError(
            f"`data.num_train` must be <= {num_train}, the training windows of `{config.name}`, "
            f"but got {kept}; lower it or leave it out"
        )
    val = slice(num_train, num_train + num_val)
    test = slice(num_train + num_val, None)
    return (x[:kept], y[:kept]), (x[val], y[val]), (x[test], y[test])


def _cut(text: np.ndarray, context: int) -> Windows:
    """Cut bytes [num_bytes] into inputs and, one byte later, targets."""
    num_rows = (len(text) - 1) // context
    size = num_rows * context
    x = text[:size].reshape(num_rows, context).astype(np.float32)
    y = text[1 : size + 1].reshape(num_rows, context).astype(np.int64)
    return x, y
