"""What a trial is worth at an epoch: its metrics there, and its objectives' values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from service.energy import accounts, cost_kwh
from service.ledger.records import TrialRecord
from service.search.context import SearchContext
from service.search.objectives import Objective

Metrics = dict[str, float]


def metrics_at(
    context: SearchContext, trials: Sequence[TrialRecord], epoch: int | None = None
) -> dict[int, Metrics]:
    """Return each trial's metrics at `epoch`, or at its last epoch before it.

    With restore-best on, these are the metrics of the best epoch up to then, since those are
    the weights the trial would keep. `params`, `flops`, `seconds` and, where the spec asks for
    it, `energy_kwh` are added.
    """
    wanted = [trial.trial_id for trial in trials]
    rows: dict[int, dict[int, Mapping[str, float]]] = {trial_id: {} for trial_id in wanted}
    for trial_id, at_epoch, _status, metrics in context.ledger.epoch_rows(
        context.search_id, wanted
    ):
        if epoch is None or at_epoch <= epoch:
            rows[trial_id][at_epoch] = metrics
    energy = _energy_kwh(context) if context.needs_energy else {}
    result: dict[int, Metrics] = {}
    for trial in trials:
        epochs = rows[trial.trial_id]
        if not epochs:
            continue
        last = max(epochs)
        chosen = {name: value for name, value in epochs[last].items() if name != "busy_s"}
        if context.restores_best(trial):
            best_epoch = int(chosen.get("best_epoch", last))
            chosen = {**epochs.get(best_epoch, chosen), "best_epoch": best_epoch}
            chosen.pop("busy_s", None)
        if trial.num_params is not None:
            chosen["params"] = trial.num_params
        if trial.flops_per_epoch is not None:
            chosen["flops"] = trial.flops_per_epoch * last
        chosen["seconds"] = math.fsum(row.get("busy_s", 0.0) for row in epochs.values())
        if trial.trial_id in energy:
            chosen["energy_kwh"] = energy[trial.trial_id]
        result[trial.trial_id] = chosen
    return result


def _energy_kwh(context: SearchContext) -> dict[int, float]:
    """Return what each trial took up to now; time without a meter is estimated."""
    context.energy.flush()
    return cost_kwh(accounts(context.ledger, context.search_id).per_trial)


def values_of(metrics: Mapping[str, float], objectives: Sequence[Objective]) -> tuple[float, ...]:
    """Return the objectives' values in order, NaN for one that is missing."""
    return tuple(float(metrics.get(objective.metric, math.nan)) for objective in objectives)


def mean_values(rows: Iterable[Sequence[float]]) -> tuple[float, ...]:
    """Average the values of one configuration over its seeds; NaN where any seed diverged."""
    columns = list(zip(*rows, strict=True))
    return tuple(math.fsum(column) / len(column) for column in columns)
