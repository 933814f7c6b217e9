"""The learning rate's factor in closed form.

Every factor is a function of (step, total steps of the trial's own horizon). Borders of segments
and rungs never enter, so a trial that is stopped and taken up again follows the same curve.
Recursive forms, as torch's schedulers mostly use, round differently and need state.
"""

from __future__ import annotations

from collections.abc import MutableMapping

import numpy as np
import numpy.typing as npt

from trainers.config import ScheduleConfig


def factors(
    schedule: ScheduleConfig,
    first_step: int,
    num_steps: int,
    total_steps: int,
    plateau_drops: int = 0,
) -> npt.NDArray[np.float64]:
    """Return the factors of `num_steps` updates from `first_step` (from 0) on, [num_steps].

    Over the first w = round(warmup_fraction * total_steps) updates the factor rises as
    (step + 1) / w. After that, with t = (step - w) / (total_steps - w) in [0, 1):

    - constant: 1
    - linear: 1 - (1 - end_factor) t
    - exponential: gamma ** t
    - step: gamma ** floor(t * num_steps)
    - cosine: end_factor + (1 - end_factor) (1 + cos(pi t)) / 2   (Loshchilov & Hutter 2017)
    - plateau: gamma ** plateau_drops, during warm-up too
    - wsd: 1 until the last c = round(cooldown_fraction * total_steps) updates, of which update j
      (from 0) has 1 - (1 - end_factor) j / c   (Hägele et al. 2024, linear cool-down)

    Args:
        schedule: The trial's schedule.
        first_step: Updates the trial has done.
        num_steps: How many factors to return.
        total_steps: Updates over the trial's own horizon (`train.epochs`).
        plateau_drops: How often the plateau schedule has dropped (see `update_plateau`).
    """
    step = np.arange(first_step, first_step + num_steps)
    warmup = round(schedule.warmup_fraction * total_steps)
    after = np.maximum(step - warmup, 0)
    rest = max(total_steps - warmup, 1)
    t = after / rest
    end = schedule.end_factor
    if schedule.kind == "linear":
        factor = 1 - (1 - end) * t
    elif schedule.kind == "exponential":
        factor = schedule.gamma**t
    elif schedule.kind == "step":
        # In integers: floor(t * num_steps) would be off by one where t rounds down.
        factor = schedule.gamma ** (after * schedule.num_steps // rest).astype(np.float64)
    elif schedule.kind == "cosine":
        factor = end + (1 - end) * (1 + np.cos(np.pi * t)) / 2
    elif schedule.kind == "wsd":
        cooldown = max(round(schedule.cooldown_fraction * total_steps), 1)
        factor = 1 - (1 - end) * np.maximum(step - (total_steps - cooldown), 0) / cooldown
    elif schedule.kind == "plateau":
        factor = np.full(num_steps, schedule.gamma**plateau_drops)
    else:
        factor = np.ones(num_steps)
    if warmup:
        factor = factor * np.minimum((step + 1) / warmup, 1.0)
    return np.asarray(factor, dtype=np.float64)


def update_plateau(
    schedule: ScheduleConfig, counters: MutableMapping[str, float], val_loss: float
) -> None:
    """Count an epoch for the plateau schedule, as `torch.optim.lr_scheduler.ReduceLROnPlateau`.

    A loss below best * (1 - threshold) is better. After more than `patience_epochs` epochs
    without a better one the rate drops by `gamma`, from the next epoch on. The trial's own
    counters `plateau_best`, `plateau_bad_epochs` and `plateau_drops` are updated in place.
    """
    if schedule.kind != "plateau":
        return
    best = counters.get("plateau_best")
    if best is None or val_loss < best * (1 - schedule.threshold):
        counters["plateau_best"] = val_loss
        counters["plateau_bad_epochs"] = 0
        return
    counters["plateau_bad_epochs"] += 1
    if counters["plateau_bad_epochs"] > schedule.patience_epochs:
        counters["plateau_drops"] = counters.get("plateau_drops", 0) + 1
        counters["plateau_bad_epochs"] = 0
