"""How long a point is trained: budgets in FLOPs as epochs of a few rows each.

Notation: C budget in FLOPs, f FLOPs of training on one row, R rows of an epoch, k epochs of the
smallest budget. A point has round(C / (f R)) epochs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainers.config import ScheduleConfig

FEWEST_EPOCHS, MOST_EPOCHS = 4, 40
"""Of the smallest budget, before an epoch is rounded to whole batches. Each ends with a validation,
which costs time but no counted FLOPs."""
TOLERANCE = 0.01
"""Of every budget, as counted FLOPs against those asked for."""


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """One model's epochs, shared by all its budgets so that they fit into one pack."""

    rows_per_epoch: int
    flops_per_row: float

    def epochs(self, budget_flops: float) -> int:
        """Return the whole epochs nearest to a budget, at least one."""
        return max(1, round(budget_flops / (self.flops_per_row * self.rows_per_epoch)))

    def flops(self, epochs: int) -> float:
        """Return the FLOPs that so many epochs train with."""
        return epochs * self.rows_per_epoch * self.flops_per_row

    def error(self, budget_flops: float) -> float:
        """Return by which share the trained FLOPs miss the budget, in absolute value."""
        return abs(self.flops(self.epochs(budget_flops)) / budget_flops - 1)


def choose_lengths(flops_per_row: float, batch_size: int, budgets: Sequence[float]) -> Lengths:
    """Return the longest epochs, whole batches each, that hit every budget to a hundredth.

    Where no choice does, the one that comes nearest is taken.

    Args:
        flops_per_row: f of the model.
        batch_size: rows of an update.
        budgets: C of every point of this model, in FLOPs.
    """
    rows = min(budgets) / flops_per_row
    found: list[tuple[float, Lengths]] = []
    for num_epochs in range(FEWEST_EPOCHS, MOST_EPOCHS + 1):
        num_batches = max(1, round(rows / num_epochs / batch_size))
        lengths = Lengths(rows_per_epoch=num_batches * batch_size, flops_per_row=flops_per_row)
        error = max(lengths.error(budget) for budget in budgets)
        if error <= TOLERANCE:
            return lengths
        found.append((error, lengths))
    return min(found, key=lambda item: item[0])[1]


def updates_per_epoch(rows_per_epoch: int, batch_size: int) -> int:
    """Return the updates of an epoch; rows left over after full batches make one of their own."""
    full, left = divmod(rows_per_epoch, batch_size)
    # A single row left over is dropped by the trainer, where there is a full batch before it.
    return full + (1 if left > 1 or (left and not full) or (left and batch_size == 1) else 0)


def shared_warmup(schedule: ScheduleConfig, updates: int) -> int:
    """Return the warm-up of all forks of one run: its fraction of the smallest budget's updates."""
    return round(schedule.warmup_fraction * updates)


def fork_epoch(schedule: ScheduleConfig, epochs: int, updates_of_epoch: int) -> int:
    """Return the last whole epoch of a wsd run in which no cool-down has begun.

    Runs of one seed that differ only in length are equal up to the shorter one's fork epoch.
    """
    total = epochs * updates_of_epoch
    cooldown = max(round(schedule.cooldown_fraction * total), 1)
    return (total - cooldown) // updates_of_epoch
