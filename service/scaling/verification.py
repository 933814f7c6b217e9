"""Predict a larger budget, write the prediction down, train it, and compare.

The prediction is an event of the ledger before any trial for it exists, so that it cannot have
been made to fit. The model is the permitted size nearest to the predicted optimum: sizes between
and beyond the study's own are found by the step that its sizes have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from service.ledger import Ledger
from service.scaling.facts import PREDICTION, facts_of, recipe_name
from service.scaling.groups import base_config, params_of
from service.scaling.points import Points
from service.scaling.running import Report, run_recorded, study_record
from service.scaling.study_points import study_points
from service.scaling.study_spec import StudySpec, Values
from service.search.allowance import Allowance
from service.search.display import Display, Silent
from service.search.provenance import refuse_changes
from service.search.session import Workers
from service.search.single_driver import refuse_second_driver
from trainers.errors import ConfigError, ScalingError

LARGEST_FACTOR = 8
"""Sizes up to this many times the study's largest are considered."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a fit says of a budget: the best model, or a given one, and its loss."""

    params: float
    """N of the optimum, or of the model that was asked about."""
    loss: float
    low: float
    high: float
    """Ends of the prediction interval of the loss."""
    method: str = ""
    """What predicted: law, and how the interval was made."""


Predict = Callable[[Points, float, float | None], Prediction]
"""(points of one recipe, C in FLOPs, N or None) -> prediction at N, or at the optimum for None."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """A prediction beside what then happened."""

    recipe: str
    flops: float
    """Of the model that was trained, as counted."""
    params: float
    size: Values
    optimal_params: float
    """What the fit held to be best; `params` is the nearest permitted."""
    predicted: float
    low: float
    high: float
    actual: float
    """Mean over `num_seeds` seeds."""
    num_seeds: int
    error: float
    """actual - predicted."""
    inside: bool
    """Whether the actual loss lies within the interval."""
    confidence: float
    method: str

    def to_mapping(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @property
    def text(self) -> str:
        """The comparison in one sentence."""
        return (
            f"at {self.flops:.3g} FLOP: predicted {self.predicted:.4g} ({self.confidence:.0%}: "
            f"{self.low:.4g}-{self.high:.4g}), then measured {self.actual:.4g} "
            f"({self.num_seeds} seeds), {'inside' if self.inside else 'outside'} the interval"
        )


def run_verification(
    study_id: str,
    predict: Predict,
    *,
    flops: float | None = None,
    ledger: str | Path,
    workers: int | None = None,
    address: str | None = None,
    accept_changes: bool = False,
    display: Display | None = None,
    report: Report | None = None,
    allowance: Allowance | None = None,
) -> list[Verification]:
    """Predict, store, train and compare, for each recipe of a study.

    A verification that was cut off is finished by `resume`; asking again for the same budget
    trains nothing that is there.

    Args:
        study_id: a study that has ended.
        predict: the fit.
        flops: the budget; None: `verify.flops` of the spec.
        ledger: file or URL that holds the study.
        workers: processes to spread trials over; None: one per core.
        address: a Ray cluster to join.
        accept_changes: train on under changed code or versions; it is recorded.
        display: who watches; None: nobody.
        report: writes the outputs once the trials have ended.
        allowance: who says how many of the workers it may hold at a time; None: all.

    Returns:
        The comparison at this budget, one per recipe.

    Raises:
        ConfigError: no budget is given, or it is no larger than the study's.
        ChangedError: code or versions changed and `accept_changes` is False.
        LedgerError: the study is still being run, or is unknown.
        ScalingError: the study has no points yet, or the trials for the prediction diverged.

    """
    with Ledger.open(str(ledger), create=False) as opened:
        record = study_record(opened, study_id)
        refuse_second_driver(opened, record)
        spec = StudySpec.from_mapping(dict(record.spec))
        budget = _budget(spec, flops)
        refuse_changes(opened, record, accept_changes)
        made = {
            recipe_name(event.payload["recipe"])
            for event in opened.events(study_id, PREDICTION)
            if float(event.payload["flops"]) == budget
        }
        points = study_points(opened, study_id)
        payloads = [
            _prediction(spec, recipe, points.only(recipe_name(recipe)), predict, budget)
            for recipe in spec.recipe_values
            if recipe_name(recipe) not in made
        ]
        opened.reopen_search(study_id, PREDICTION, payloads, if_state=record.state)
        # What is trained now was decided above; limits of the study's own time do not hold for it.
        free = spec.with_values(budget={})
        means = Workers(num=workers, address=address, allowance=allowance)
        run_recorded(opened, record, free, means, display or Silent(), report)
        found = [each for each in verifications(opened, study_id) if _near(each.flops, budget)]
    if not found:
        raise ScalingError(
            f"the trials for the prediction at {budget:g} FLOP have no finite loss; look at them "
            f"with: isoflop show {study_id}"
        )
    return found


def verifications(ledger: Ledger, study_id: str) -> list[Verification]:
    """Return every prediction whose trials have ended, beside what they measured.

    Raises:
        LedgerError: there is no such study.

    """
    spec = StudySpec.from_mapping(dict(study_record(ledger, study_id).spec))
    trials = ledger.trials(study_id, states=["complete"])
    found = []
    for event in ledger.events(study_id, PREDICTION):
        payload = event.payload
        own = [
            trial
            for trial in trials
            if facts_of(trial)["purpose"] == "verification"
            and facts_of(trial)["budget_flops"] == payload["flops"]
            and dict(facts_of(trial)["size"]) == dict(payload["size"])
            and dict(facts_of(trial)["recipe"]) == dict(payload["recipe"])
        ]
        losses = [float(trial.metrics[spec.metric]) for trial in own]
        if not losses or not all(map(math.isfinite, losses)):
            continue
        facts = facts_of(own[0])
        actual = math.fsum(losses) / len(losses)
        found.append(
            Verification(
                recipe=recipe_name(payload["recipe"]),
                flops=own[0].epochs_done * facts["rows_per_epoch"] * facts["flops_per_row"],
                params=facts[f"params_{spec.fit.count_params}"],
                size=dict(payload["size"]),
                optimal_params=payload["optimal_params"],
                predicted=payload["loss"],
                low=payload["low"],
                high=payload["high"],
                actual=actual,
                num_seeds=len(losses),
                error=actual - payload["loss"],
                inside=payload["low"] <= actual <= payload["high"],
                confidence=payload["confidence"],
                method=payload["method"],
            )
        )
    return found


def _budget(spec: StudySpec, flops: float | None) -> float:
    if flops is None and spec.verify is None:
        raise ConfigError(
            "verifying needs a budget, but neither `flops` nor the spec's `verify.flops` is given; "
            f"pass e.g. flops={3 * spec.budgets[-1]:g}"
        )
    budget = float(flops if flops is not None else spec.verify.flops)  # type: ignore[union-attr]
    if not math.isfinite(budget) or budget <= spec.budgets[-1]:
        raise ConfigError(
            "a budget to verify must be larger than every budget of the study, or nothing is "
            f"predicted, but got {budget:g} and a budget of {spec.budgets[-1]:g}; raise it"
        )
    return budget


def _near(trained: float, budget: float) -> bool:
    return abs(math.log(trained / budget)) < 0.5


def _prediction(
    spec: StudySpec, recipe: Values, points: Points, predict: Predict, budget: float
) -> dict[str, Any]:
    """Return what is written down: the best size, the permitted one, and its loss."""
    best = predict(points, budget, None)
    size, num_params = nearest_size(spec, recipe, best.params)
    there = predict(points, budget, float(num_params))
    return {
        **asdict(replace(there, params=float(num_params))),
        "optimal_params": best.params,
        "recipe": dict(recipe),
        "size": size,
        "data_size": max(spec.data_sizes, default=None),
        "flops": budget,
        "confidence": spec.fit.confidence,
        "num_points": len(points),
        "data_sha256": points.data_sha256,
    }


def nearest_size(spec: StudySpec, recipe: Values, num_params: float) -> tuple[dict[str, Any], int]:
    """Return the permitted size whose parameters are nearest in ratio, and how many it has.

    Args:
        spec: the study.
        recipe: the recipe's paths.
        num_params: N, counted as the spec's `fit.count_params` says.
    """
    found: list[tuple[float, dict[str, Any], int]] = []
    for size in _permitted_sizes(spec):
        try:
            config = base_config(spec, {**size, **recipe})
        except ConfigError:
            continue  # a size between those listed that the model or `derive` does not allow
        params_all, non_embedding = params_of(config)
        own = params_all if spec.fit.count_params == "all" else non_embedding
        found.append((abs(math.log(own / num_params)), size, own))
    _, size, own = min(found, key=lambda item: item[0])
    return size, own


def _permitted_sizes(spec: StudySpec) -> Iterator[dict[str, Any]]:
    """Yield the study's sizes; with one path of whole numbers, those between and beyond as well."""
    yield from spec.size_values
    if len(spec.sizes) != 1:
        return
    [(path, values)] = spec.sizes.items()
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return
    step = math.gcd(*values)
    for value in range(step, LARGEST_FACTOR * max(values) + 1, step):
        if value not in values:
            yield {path: value}
