"""What a job may run, a search or a scaling study, behind the questions that the queue asks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.jobs.records import JobKind
from service.scaling.study_spec import StudySpec
from service.search.spec import SearchSpec

JobSpec = SearchSpec | StudySpec


def parse_spec(kind: JobKind, mapping: Mapping[str, Any]) -> JobSpec:
    """Return a job's spec, validated.

    Raises:
        ConfigError: it breaks a rule of its kind.

    """
    return (StudySpec if kind == "study" else SearchSpec).from_mapping(dict(mapping))


def plan_rows(spec: JobSpec) -> list[dict[str, Any]]:
    """Return what would be trained, part by part: trials, epochs (None: they differ) and why.

    Of a study these are the most that its limits may leave of every size at every budget.
    """
    if isinstance(spec, SearchSpec):
        return [
            {"trials": (r.trials or 0) * r.seeds, "epochs": r.epochs, "why": r.reason}
            for r in spec.plan()
        ]
    models = len(spec.size_values) * len(spec.recipe_values) * max(len(spec.data_sizes), 1)
    budgets = len(spec.budgets)
    seeds = max(spec.seeds.default, spec.seeds.near_minimum or 0)
    rows = []
    if spec.tune is not None:
        tuned = budgets if spec.tune.per == "point" else min(spec.tune.budgets, budgets)
        why = f"{spec.tune.trials} to tune each of {models} models at {tuned} budgets"
        rows.append({"trials": models * tuned * spec.tune.trials, "epochs": None, "why": why})
    why = f"{models} models at {budgets} budgets, up to {seeds} seeds"
    rows.append({"trials": models * budgets * seeds, "epochs": None, "why": why})
    return rows


def notes_of(spec: JobSpec) -> tuple[str, ...]:
    """Return what a spec asks for that will be done otherwise."""
    return tuple(spec.notes) if isinstance(spec, SearchSpec) else ()


def estimate_of(spec: JobSpec, *, workers: int, folder: Path) -> tuple[float, dict[str, Any]]:
    """Measure for a moment; return the wall time in seconds, and the estimate as plain values.

    Args:
        spec: what would run.
        workers: processes that it would have.
        folder: where its outputs would go.

    Raises:
        ConfigError: the spec, its data or the folder break a rule.

    """
    if isinstance(spec, StudySpec):
        from service.scaling.planning import plan_study

        plan = plan_study(spec, workers=workers, folder=folder)
        total = {"trials": plan.trials, "flops": plan.flops, "seconds": 3600 * plan.hours}
        return 3600 * plan.hours, {**total, "kwh": plan.kwh, "summary": plan.text}
    from service.search.estimate import estimate
    from service.search.prepare import prepare

    found = estimate(prepare(spec, folder), workers=workers)
    return found.seconds, found.to_mapping()
