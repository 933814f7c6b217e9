"""Stateless random numbers: key = (seed, purpose), counter = (epoch, step).

A trial's data order and dropout noise are functions of its own seed and of where it is, never of
a generator that somebody else also draws from. So a trial sees the same numbers alone or in any
pack, on the first attempt or the third, and a checkpoint needs no generator state.

The counter-based generator is Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as
easy as 1, 2, 3"). One block of the counter gives four 64-bit words, that is 16 half words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_PURPOSES = {"order": 1, "dropout": 2, "model": 3, "rule_start": 4, "rule_noise": 5}
_HALF_WORDS_PER_BLOCK = 16
_HALF_WORD_RANGE = 1 << 16
_WORD_MASK = (1 << 64) - 1


def philox(seed: int, purpose: str, epoch: int) -> np.random.Philox:
    """Return the generator of one purpose of one trial, at the start of one epoch."""
    key = np.array([seed & _WORD_MASK, _PURPOSES[purpose]], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, 0, epoch], dtype=np.uint64))


def row_order(seed: int, epoch: int, num_rows: int) -> npt.NDArray[np.int64]:
    """Return the order in which a trial visits the training rows in `epoch`, from 0."""
    return np.random.Generator(philox(seed, "order", epoch)).permutation(num_rows)


def rows_of_epoch(
    seed: int, epoch: int, num_rows: int, rows_per_epoch: int
) -> npt.NDArray[np.int64]:
    """Return which rows a trial visits in `epoch`, where an epoch is a stretch of a stream.

    The stream is one pass over the data after the other, each in the order of `row_order`, and
    epoch e is its part from e * rows_per_epoch on. So the rows that a trial has seen after so
    many updates do not depend on how long an epoch is; `rows_per_epoch = num_rows` is `row_order`.
    """
    first = epoch * rows_per_epoch
    last = first + rows_per_epoch
    passes = range(first // num_rows, (last - 1) // num_rows + 1)
    stream = [row_order(seed, number, num_rows) for number in passes]
    skipped = first - passes[0] * num_rows
    return np.concatenate(stream)[skipped : skipped + rows_per_epoch]


def model_seed(seed: int, epoch: int, step: int) -> int:
    """Return a 63-bit seed for modules that draw from torch's global generator themselves."""
    bits = philox(seed, "model", epoch)
    bits.advance(step)
    return int(bits.random_raw()) >> 1


def half_words_per_step(sizes: Sequence[int]) -> int:
    """Return how many 16-bit numbers one step draws for dropouts of these sizes.

    Each dropout starts a new counter block, so its numbers depend on the step alone.
    """
    return sum(_whole_blocks(size) for size in sizes)


def _whole_blocks(size: int) -> int:
    return -(-size // _HALF_WORDS_PER_BLOCK) * _HALF_WORDS_PER_BLOCK


class DropoutNoise:
    """Dropout masks of a group of lanes for one epoch, step after step.

    Units are dropped where a 16-bit number lies below p * 65536: p is honoured to 1/65536, which
    costs a sixth of what one float per unit would. What is kept is scaled by 1 / (1 - p), as
    `torch.nn.Dropout` does.

    Args:
        seeds: The seed of each lane, [W].
        epochs: The epoch each lane is in, from 0, [W].
        rates: p of each dropout and lane, [num_dropouts][W].
        shapes: What one row of each dropout's input looks like, e.g. (width,).
        batch_size: Rows of a full step; the numbers of step s start at s * (one full step).
        dtype: Of the masks.
        device: Of the masks; the numbers are drawn on the processor and moved there.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        epochs: Sequence[int],
        rates: Sequence[Sequence[float]],
        shapes: Sequence[tuple[int, ...]],
        batch_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._shapes = list(shapes)
        self._row_sizes = [int(np.prod(shape)) for shape in shapes]
        self._device = device
        self._num_words = half_words_per_step([batch_size * n for n in self._row_sizes]) // 4
        self._streams = [
            philox(seed, "dropout", epoch) for seed, epoch in zip(seeds, epochs, strict=True)
        ]
        self._words = np.empty((len(seeds), self._num_words), dtype=np.uint64)
        self._starts = np.cumsum([0] + [_whole_blocks(batch_size * n) for n in self._row_sizes])
        self._thresholds, self._scales = [], []
        for lane_rates, shape in zip(rates, shapes, strict=True):
            column = (-1, *[1] * (1 + len(shape)))  # [W, 1, 1...] against [W, B, *shape]
            below = [round(p * _HALF_WORD_RANGE) - _HALF_WORD_RANGE // 2 for p in lane_rates]
            self._thresholds.append(torch.tensor(below, dtype=torch.int32).view(column))
            scale = torch.tensor([1 / (1 - p) for p in lane_rates], dtype=torch.float64)
            self._scales.append(scale.to(device, dtype).view(column))
        self._masks: dict[int, list[Tensor]] = {}

    def masks(self, num_rows: int) -> list[Tensor]:
        """Return the next step's masks, already scaled: one [W, num_rows, *shape] per dropout.

        The tensors are reused by the next call with as many rows.
        """
        for lane, stream in enumerate(self._streams):
            self._words[lane] = stream.random_raw(self._num_words)
        half_words = torch.from_numpy(self._words.view(np.int16))
        if num_rows not in self._masks:
            self._masks[num_rows] = [
                torch.empty(
                    (len(self._streams), num_rows, *shape),
                    dtype=scale.dtype,
                    device=self._device,
                )
                for shape, scale in zip(self._shapes, self._scales, strict=True)
            ]
        masks = self._masks[num_rows]
        for index, mask in enumerate(masks):
            start = int(self._starts[index])
            numbers = half_words[:, start : start + num_rows * self._row_sizes[index]]
            kept = numbers.view(mask.shape) >= self._thresholds[index]
            torch.mul(kept.to(self._device), self._scales[index], out=mask)
        return masks
