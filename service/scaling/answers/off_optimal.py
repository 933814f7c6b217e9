"""What it costs to train a model that is too large or too small for its budget."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from service.report.numbers import percent, short
from service.scaling.answers.optima import budget_for_loss
from service.scaling.answers.result import Answer, budgets_array
from service.scaling.fitted import StudyFit


def off_optimal(fit: StudyFit, times: float | Iterable[float], flops: float) -> Answer:
    """Return the cost of N = k N_opt, with D = D_opt / k at the same budget.

    Args:
        fit: the law.
        times: k: 2 for twice the best size, 0.5 for half of it.
        flops: the budget C.

    Returns:
        One row per k: times, params, tokens, loss, loss_excess (over the best at C),
        compute_wasted (the share of C that the best size would not have needed for this loss).

    Raises:
        ConfigError: k or the budget is no positive, finite number.

    """
    k = budgets_array(times, "how many times too large (`k`)")
    budget = budgets_array(flops, "the budget")
    best = fit.optimum(budget).iloc[0]
    params, tokens = float(best["params"]) * k, float(best["tokens"]) / k
    loss = fit.joint.predict(params, tokens)
    equal = [
        budget_for_loss(fit.joint, float(value), fit.flops_per_param_token, near=float(budget[0]))
        for value in loss
    ]
    frame = pd.DataFrame(
        {
            "times": k,
            "params": params,
            "tokens": tokens,
            "loss": loss,
            "loss_excess": loss - float(best["loss"]),
            "compute_wasted": 1.0 - np.array(equal) / budget[0],
        }
    )
    lines = [
        f"{short(row['times'])}x the best size at {short(float(budget[0]))} FLOP: "
        f"{fit.points.metric} {short(row['loss'], 4)}, {short(row['loss_excess'])} more than the "
        f"best; {percent(max(0.0, row['compute_wasted']))} of the compute is wasted"
        for row in frame.to_dict("records")
    ]
    return Answer(frame=frame, sentence="\n".join(lines))
