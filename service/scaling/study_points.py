"""A study's points and tuning trials as tables, read off the ledger.

Notation: N parameters, D tokens (rows, for other data than text), C training FLOPs as counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from service.ledger import Ledger
from service.ledger.records import TrialRecord
from service.scaling.facts import NOT_DONE, facts_of, is_tuning, key_of, recipe_name
from service.scaling.points import FLOPS_PER_PARAM_TOKEN, Points
from service.scaling.running import study_record
from service.scaling.study_spec import StudySpec
from service.scaling.tuning import at_edge, best_of, tried_of, value_of
from trainers.errors import ScalingError

Place = tuple[str, float]
"""A group's key and a budget in FLOPs."""


def study_points(ledger: Ledger, study_id: str, *, verification: bool = False) -> Points:
    """Return one point for every size, budget and seed that was trained to its end.

    Beside the columns of `Points` there are `budget_flops`, `flops_6nd`, `params_all`,
    `params_non_embedding`, `unique_tokens`, `passes`, `epochs`, `size.<path>`, the tuned paths,
    `tuned` (its size was tuned at this very budget), `at_edge` (the best of its tuning lay at
    the end of all that was tried) and `purpose`. `run` is the same for forks of one run. `kwh` is
    the energy of the trial as if it had been trained alone: a fork's includes its share of the run
    it was forked from.

    Args:
        ledger: where the study is recorded.
        study_id: its id.
        verification: the points trained to verify a prediction, instead of the study's own.

    Raises:
        LedgerError: there is no such study.
        ScalingError: no point has been trained yet.

    """
    spec = StudySpec.from_mapping(dict(study_record(ledger, study_id).spec))
    trials = [t for t in ledger.trials(study_id) if t.state not in NOT_DONE]
    chosen = [t for t in _points(trials, spec) if _verifies(t) == verification]
    ended = [trial for trial in chosen if math.isfinite(value_of(trial, spec.metric))]
    if not ended:
        raise ScalingError(
            f"`{study_id}` has no finished point yet ({len(trials)} trials recorded); "
            f"go on with: isoflop resume {study_id}"
        )
    edges = _edges(trials, spec)
    by_id = {trial.trial_id: trial for trial in trials}
    kwh = _kwh(ledger, study_id, by_id)
    frame = pd.DataFrame([_row(trial, spec, edges, kwh, by_id) for trial in ended])
    points = Points.from_frame(
        frame,
        params="N",
        tokens="D",
        flops="C",
        loss="value",
        run="run_of",
        by="recipe",
        kwh="kwh_alone",
        seed="trial_seed",
        metric=spec.metric,
        count=spec.fit.count_params,
    )
    lost = len(chosen) - len(ended)
    notes = (f"{lost} points diverged and are left out",) if lost else ()
    return replace(points, notes=(*points.notes, *notes))


def tuning_frame(ledger: Ledger, study_id: str) -> pd.DataFrame:
    """Return one row per tuning trial: what the law of the best learning rate is read off.

    Columns: `trial_id`, `by`, `params` N, `tokens` D, `flops` C, `budget_flops`, `loss` (infinite
    where it diverged), `wave`, `best` (of its size and budget), `at_edge` (of the best: low, high
    or nothing), `size.<path>`, and the tuned paths.

    Raises:
        LedgerError: there is no such study.

    """
    spec = StudySpec.from_mapping(dict(study_record(ledger, study_id).spec))
    trials = [t for t in ledger.trials(study_id) if t.state not in NOT_DONE]
    edges = _edges(trials, spec)
    best = {trial.trial_id for trial in _best_of_tuning(trials, spec.metric)}
    rows = []
    for trial in trials:
        if not is_tuning(trial):
            continue
        facts = facts_of(trial)
        is_best = trial.trial_id in best
        lr_edge = edges.get(_place(trial), {}) if is_best else {}
        rows.append(
            {
                "trial_id": trial.trial_id,
                "by": recipe_name(facts["recipe"]),
                "params": facts[f"params_{spec.fit.count_params}"],
                "tokens": _tokens(trial),
                "flops": _flops(trial),
                "budget_flops": facts["budget_flops"],
                "loss": value_of(trial, spec.metric),
                "wave": facts["tuning_wave"],
                "best": is_best,
                "at_edge": ", ".join(f"{path} {end}" for path, end in lr_edge.items()),
                **{f"size.{path}": value for path, value in facts["size"].items()},
                **trial.params,
            }
        )
    return pd.DataFrame(rows)


def _points(trials: Sequence[TrialRecord], spec: StudySpec) -> list[TrialRecord]:
    """Return the trials made as points, and the best of tuning where it is one.

    It is one where points use its values; smoothed values are trained with the same seed beside it.
    """
    made = [trial for trial in trials if not is_tuning(trial)]
    trained = {(_place(trial), trial.seed) for trial in made}
    tuned = [
        trial
        for trial in _best_of_tuning(trials, spec.metric)
        if facts_of(trial)["budget_flops"] in spec.budgets
        and (_place(trial), trial.seed) not in trained
    ]
    return sorted([*made, *tuned], key=lambda trial: trial.trial_id)


def _best_of_tuning(trials: Sequence[TrialRecord], metric: str) -> list[TrialRecord]:
    best: dict[Place, TrialRecord] = {}
    for trial in trials:
        if is_tuning(trial):
            rival = best.get(_place(trial))
            if rival is None or value_of(trial, metric) < value_of(rival, metric):
                best[_place(trial)] = trial
    return list(best.values())


def _place(trial: TrialRecord) -> Place:
    return key_of(trial), float(facts_of(trial)["budget_flops"])


def _verifies(trial: TrialRecord) -> bool:
    facts = facts_of(trial)
    return facts["purpose"] == "verification" or not facts["planned"]


def _edges(trials: Sequence[TrialRecord], spec: StudySpec) -> dict[Place, dict[str, str]]:
    """Return where the best of each tuning lies at the end of what was tried."""
    places: dict[Place, list[TrialRecord]] = {}
    for trial in trials:
        if is_tuning(trial):
            places.setdefault(_place(trial), []).append(trial)
    edges = {}
    for place, tuning in places.items():
        tried = tried_of(tuning, spec.metric)
        if spec.tune is not None and math.isfinite(best_of(tried).value):
            edges[place] = at_edge(spec.tune.space, tried)
    return edges


def _row(
    trial: TrialRecord,
    spec: StudySpec,
    edges: Mapping[Place, Mapping[str, str]],
    kwh: Mapping[int, float],
    by_id: Mapping[int, TrialRecord],
) -> dict[str, Any]:
    facts = facts_of(trial)
    num_params = facts[f"params_{spec.fit.count_params}"]
    tokens = _tokens(trial)
    rows = trial.epochs_done * facts["rows_per_epoch"]
    tuned_at = facts.get("tuned_at_flops", facts["budget_flops"])
    return {
        "run_of": f"trial {_root(trial, by_id)}",
        "recipe": recipe_name(facts["recipe"]),
        "N": num_params,
        "D": tokens,
        "C": _flops(trial),
        "value": value_of(trial, spec.metric),
        "kwh_alone": kwh.get(trial.trial_id, math.nan),
        "trial_seed": trial.seed,
        "trial_id": trial.trial_id,
        "budget_flops": facts["budget_flops"],
        "flops_6nd": FLOPS_PER_PARAM_TOKEN * num_params * tokens,
        "params_all": facts["params_all"],
        "params_non_embedding": facts["params_non_embedding"],
        "unique_tokens": min(rows, facts["num_train"]) * facts["tokens_per_row"],
        "passes": rows / facts["num_train"],
        "epochs": trial.epochs_done,
        "tuned": is_tuning(trial) or tuned_at == facts["budget_flops"],
        "at_edge": tuned_at is not None and bool(edges.get((key_of(trial), float(tuned_at)), {})),
        "purpose": facts["purpose"],
        **{f"size.{path}": value for path, value in facts["size"].items()},
        **trial.params,
    }


def _root(trial: TrialRecord, by_id: Mapping[int, TrialRecord]) -> int:
    """Return the run that a fork goes back to, or the trial's own."""
    while trial.parent_trial is not None and trial.parent_trial in by_id:
        trial = by_id[trial.parent_trial]
    return trial.trial_id


def _tokens(trial: TrialRecord) -> int:
    facts = facts_of(trial)
    return int(trial.epochs_done * facts["rows_per_epoch"] * facts["tokens_per_row"])


def _flops(trial: TrialRecord) -> float:
    facts = facts_of(trial)
    return float(trial.epochs_done * facts["rows_per_epoch"] * facts["flops_per_row"])


def _kwh(ledger: Ledger, study_id: str, trials: Mapping[int, TrialRecord]) -> dict[int, float]:
    """Return each trial's energy as if it had been trained alone; trials without are left out."""
    from service.energy import accounts, cost_kwh

    own = cost_kwh(accounts(ledger, study_id).per_trial)
    forks = [t for t in trials.values() if t.parent_trial is not None and t.trial_id in own]
    first: dict[int, int] = {}
    for trial_id, epoch, _, _ in ledger.epoch_rows(study_id, [t.trial_id for t in forks]):
        first[trial_id] = min(epoch, first.get(trial_id, epoch))
    result = dict(own)
    for fork in sorted(forks, key=lambda trial: trial.trial_id):
        assert fork.parent_trial is not None
        parent = trials.get(fork.parent_trial)
        if parent is not None and parent.trial_id in result and parent.epochs_done:
            share = (first.get(fork.trial_id, 1) - 1) / parent.epochs_done
            result[fork.trial_id] = own[fork.trial_id] + share * result[parent.trial_id]
    return {trial_id: kwh for trial_id, kwh in result.items() if kwh > 0}
