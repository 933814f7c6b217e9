"""`summary.json`: the report for programs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from service.recipe.record import plain
from service.report.facts import Facts
from service.report.training import how_compared, how_trained
from service.report.trust import warnings
from service.report.verdict import Answer, answer, sentence
from service.search.objectives import Interval
from trainers.errors import ConfigError

SUMMARY_NAME = "summary.json"


def summary(facts: Facts) -> dict[str, Any]:
    """Return what `summary.json` holds: plain values; what is unknown or not finite is None."""
    found = answer(facts)
    accounts, site = facts.accounts, facts.site
    energy_kwh: dict[str, float | None] = dict.fromkeys(
        ("node", "own", "trials", "padding", "overhead", "idle", "others", "gap")
    )
    if accounts is not None:
        energy_kwh = {name: getattr(accounts, f"{name}_kwh") for name in energy_kwh}
    result: dict[str, Any] = plain(
        {
            "search_id": facts.search.search_id,
            "name": facts.search.name,
            "project": facts.search.project,
            "state": facts.search.state,
            "reason": facts.search.reason,
            "seed": facts.search.seed,
            "verdict": sentence(found),
            "best": _best(found),
            "baseline": None if found is None else _interval(found.baseline),
            "gain": None if found is None else _interval(found.gain),
            "test_looks": facts.search.test_looks,
            "trials": facts.counts,
            "recipe": [verdict.to_mapping() for verdict in facts.recipe],
            "rounds": [
                {
                    "round": r.round,
                    "kind": r.kind,
                    "sampler": r.sampler,
                    "sampler_reason": r.sampler_reason,
                    "space": r.space,
                    "reasons": list(r.reasons),
                    "epochs": r.epochs,
                    "planned_trials": r.planned_trials,
                    "state": r.state,
                    "outcome": r.outcome,
                    "compared": how_compared(facts, r.round),
                }
                for r in facts.rounds
            ],
            "energy_kwh": energy_kwh,
            "energy_residual": None if accounts is None else accounts.residual,
            "energy_measured_share": None if accounts is None else accounts.measured_share,
            "energy_provenance": {} if accounts is None else accounts.provenance,
            "pue": None if site is None else site.pue,
            "co2e_kg": None if accounts is None or site is None else site.co2e_kg(accounts.own_kwh),
            "seconds": facts.search.seconds,
            "versions": facts.search.versions,
            "training": how_trained(facts),
            "warnings": warnings(facts, found),
        }
    )
    return result


def load_summary(out_dir: str | Path) -> dict[str, Any]:
    """Read the `summary.json` of a search's folder.

    Raises:
        ConfigError: if the folder holds none, or what it holds is no summary.

    """
    path = Path(out_dir) / SUMMARY_NAME
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"a search's folder holds {SUMMARY_NAME}, but {path} cannot be read "
            f"({error.strerror}); write it with `isoflop report`"
        ) from None
    except ValueError:
        raise ConfigError(f"{path} is no JSON; write it again with `isoflop report`") from None
    if not isinstance(result, dict) or "search_id" not in result:
        raise ConfigError(f"{path} is no search's summary; write it again with `isoflop report`")
    return result


def _best(found: Answer | None) -> dict[str, Any] | None:
    if found is None:
        return None
    trials = found.best.trials
    names = dict.fromkeys(name for trial in trials for name in trial.metrics)
    means = {
        name: math.fsum(values) / len(values)
        for name in names
        if (values := [float(t.metrics[name]) for t in trials if name in t.metrics])
    }
    return {
        "config": found.best.first.config,
        "params": found.best.first.params,
        "config_id": found.best.config_id,
        "trial_ids": [trial.trial_id for trial in trials],
        "metrics": means,
        "metric": found.metric,
        "interval": _interval(found.interval),
        "test": dict(found.test),
        "within_noise": len(found.within_noise),
    }


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    if interval is None:
        return None
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
        "seeds": interval.num_values,
    }
