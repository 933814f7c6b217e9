"""Step 2: a net that cannot learn 200 rows by heart will not learn the rest either.

The net is trained without any regularisation on a small sample, at several learning rates at
once, because this step judges model, data and loss; the learning rate is step 3's matter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.recipe.record import Verdict, short, verdict_of
from trainers.config import TrialConfig

SAMPLE_ROWS = 200
"""The lecture says 100-1000 rows."""
NUM_UPDATES = 600
ENOUGH_FALL = 10.0
"""The training loss must fall to a tenth of that of knowing nothing."""
CLEAR_FALL = 2.5
"""A loss that has come this far down and is still falling only needs more time: a small net on
noisy rows. Outputs squashed by a softmax never get here: with 10 classes they stay above 0.63 of
ln 10, with 2 above 0.45 of ln 2."""
STILL_FALLING = 0.05
"""Share of the loss that went in the last quarter of the epochs."""

_ADAPTIVE_LRS = (3e-4, 1e-3, 3e-3, 1e-2)
_PLAIN_LRS = (1e-2, 3e-2, 1e-1, 3e-1)

NO_REGULARISATION: Mapping[str, Any] = {
    "model.dropout": 0.0,
    "optimizer.weight_decay": 0.0,
    "regularisation.l1": 0.0,
    "regularisation.l2": 0.0,
    "regularisation.decoupled_decay": 0.0,
    "regularisation.label_smoothing": 0.0,
}
PLAIN_TRAINING: Mapping[str, Any] = {
    "regularisation.early_stopping.patience_epochs": 0,
    "regularisation.early_stopping.restore_best": False,
    "schedule.kind": "constant",
    "schedule.warmup_fraction": 0.0,
    "train.convergence_change": None,
    "pruning.sparsity": 0.0,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Trials that the controller runs as one pack: one configuration, several learning rates."""

    configs: tuple[TrialConfig, ...]
    reason: str


@dataclass(frozen=True, kw_only=True)
class LossCurve:
    """Training loss of one learning rate, epoch by epoch."""

    lr: float
    losses: Sequence[float]
    diverged: bool = False


def plan_overfit(base: TrialConfig, num_train_rows: int) -> Plan:
    """Plan step 2 for a configuration and the rows its training split has."""
    rows = min(SAMPLE_ROWS, num_train_rows)
    batch_size = min(base.train.batch_size, max(1, rows // 4))
    epochs = math.ceil(NUM_UPDATES * batch_size / rows)
    values = {
        **NO_REGULARISATION,
        **PLAIN_TRAINING,
        "data.num_train": rows,
        "train.batch_size": batch_size,
        "train.epochs": epochs,
    }
    lrs = _PLAIN_LRS if base.optimizer.kind in ("sgd", "momentum") else _ADAPTIVE_LRS
    config = base.with_values(changes(base, values))
    return Plan(
        configs=tuple(config.with_values({"optimizer.lr": lr}) for lr in lrs),
        reason=f"{rows} rows for {epochs} epochs of {batch_size}, unregularised, at learning "
        f"rates {', '.join(map(short, lrs))}",
    )


def judge_overfit(curves: Sequence[LossCurve], *, dummy_loss: float, num_rows: int) -> Verdict:
    """Judge step 2 by the learning rate that brought the training loss lowest.

    Args:
        curves: one per learning rate of the plan.
        dummy_loss: the loss of knowing nothing (ln C, or half the target variance).
        num_rows: rows of the small sample.

    """
    best, lowest = None, math.inf
    for curve in curves:
        last = curve.losses[-1] if curve.losses and not curve.diverged else math.inf
        if math.isfinite(last) and last < lowest:
            best, lowest = curve, last
    data = {
        "num_rows": num_rows,
        "dummy_loss": dummy_loss,
        "train_loss": lowest,
        "lr": None if best is None else best.lr,
        "curves": [{"lr": c.lr, "losses": list(c.losses), "diverged": c.diverged} for c in curves],
    }

    def judged(passed: bool, word: str, reason: str, consequence: str) -> Verdict:
        return verdict_of(
            2, passed=passed, verdict=word, reason=reason, consequence=consequence, data=data
        )

    if best is None:
        return judged(
            False,
            "diverged",
            f"training on {num_rows} rows diverged at every learning rate tried",
            "Look at the scale of features and targets, and set `train.grad_clip_norm: 1.0`",
        )
    found = (
        f"after {len(best.losses)} epochs on {num_rows} rows the training loss is "
        f"{short(lowest)} (learning rate {short(best.lr)}); knowing nothing costs "
        f"{short(dummy_loss)}"
    )
    if lowest <= dummy_loss / ENOUGH_FALL:
        return judged(True, "good", found, "go on to the learning-rate sweep")
    if lowest <= dummy_loss / CLEAR_FALL and _still_falls(best.losses):
        return judged(
            True,
            "slow",
            f"{found}, and it was still falling",
            "learning by heart takes this net longer than the check; go on to the "
            "learning-rate sweep",
        )
    if lowest > 0.9 * dummy_loss:
        return judged(
            False,
            "stuck",
            found,
            "The net learns next to nothing: check that labels belong to their rows, that the "
            "activation is not saturated, and that the initial weights are neither 0 nor tiny",
        )
    return judged(
        False,
        "partial",
        f"{found}, and a tenth of that was asked for",
        "The net cannot learn a small sample by heart: check that the model returns raw scores "
        "(no softmax or sigmoid at its end), that the loss fits the task, and try more width or "
        "depth",
    )


def _still_falls(losses: Sequence[float]) -> bool:
    """Compare the last eighth of the epochs with the eighth before the last quarter."""
    eighth = max(1, len(losses) // 8)
    if len(losses) < 4 * eighth:
        return False
    late = sum(losses[-eighth:]) / eighth
    before = sum(losses[-3 * eighth : -2 * eighth]) / eighth
    return late < (1 - STILL_FALLING) * before


def changes(base: TrialConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Keep only those values that differ from the configuration's own."""
    return {path: value for path, value in values.items() if base.value(path) != value}
