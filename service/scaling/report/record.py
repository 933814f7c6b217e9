"""`study.json`: the study for programs. Its schema is `study.schema.json`, and stays stable.

Keys are added, never renamed or removed, without a new number in `schema`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from service.recipe.record import plain
from service.scaling.analysis import Analysis
from service.search.provenance import versions

SCHEMA = 1
MOST_LEVERAGE = 100
"""Rows of leverage in the record, those that move the law most; the Parquet table holds all."""
STUDY_NAME = "study.json"


def record(study: Analysis) -> dict[str, Any]:
    """Return what `study.json` holds: plain values; what is unknown or not finite is None."""
    result: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "kind": "study",
            "name": study.name,
            "sentence": study.sentence,
            "metric": study.points.metric,
            "confidence": study.fit.confidence,
            "seed": study.seed,
            "unique_tokens": study.unique_tokens,
            "data": _data(study),
            "fits": fits(study),
            "frontier": rows(study.frontier.frame),
            "curve": rows(study.curve.frame),
            "marginal": [row for answer in study.returns for row in rows(answer.frame)],
            "knee": {
                "threshold": study.knee.threshold, "relative": study.knee.relative,
                "flops": study.knee.flops, "low": study.knee.low, "high": study.knee.high,
                "sentence": study.knee.sentence,
            },
            "off_optimal": rows(study.off_optimal.frame),
            "extrapolation": extrapolation(study),
            "multiverse": rows(study.multiverse),
            "leverage": rows(study.leverage)[:MOST_LEVERAGE],
            "hyperparameters": [law.to_mapping() for law in study.hyperparameters],
            "tuning": study.tuning,
            "comparisons": [found.to_mapping() for found in study.comparisons],
            "next_runs": rows(None if study.next_runs is None else study.next_runs.frame),
            "verification": study.verification,
            "energy": {
                "kwh_per_flop": study.axis.kwh_per_flop, "source": study.axis.source,
                "site": study.axis.site.to_mapping(),
            },
            "warnings": list(study.warnings),
            "versions": versions(),
        }
    )  # fmt: skip
    return result


def rows(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return a table as a list of rows; an empty list where there is none."""
    return (
        []
        if frame is None
        else [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    )


def fits(study: Analysis) -> list[dict[str, Any]]:
    """Return every law that was fitted, the report's own first."""
    found = [study.fit.joint.to_mapping(study.fit.confidence)]
    found += [other.to_mapping() for other in study.second_opinions]
    return found


def extrapolation(study: Analysis) -> dict[str, Any]:
    """Return how well larger budgets were predicted that the fit had not seen."""
    heldout, conformal = study.fit.heldout, study.fit.conformal
    return {
        "heldout_rmse_log_loss": None if heldout is None else heldout.rmse,
        "naive_rmse_log_loss": None if heldout is None else heldout.naive_rmse,
        "num_heldout": 0 if heldout is None else len(heldout.errors),
        "nominal_coverage": study.fit.confidence,
        "coverage": None if conformal is None else conformal.coverage,
        "num_calibration": 0 if conformal is None else conformal.num,
        "conformal": None if conformal is None else conformal.to_mapping(),
    }


def _data(study: Analysis) -> dict[str, Any]:
    points, frame = study.points, study.points.frame
    return {
        "sha256": points.data_sha256,
        "num_points": len(points),
        "num_runs": int(frame["run"].nunique()),
        "recipe": str(frame["by"].iloc[0]),
        "count_params": points.count,
        "flops_per_param_token": points.flops_per_param_token,
        "notes": list(points.notes),
        **{
            name: {"low": float(frame[name].min()), "high": float(frame[name].max())}
            for name in ("flops", "params", "tokens", "loss")
        },
    }
