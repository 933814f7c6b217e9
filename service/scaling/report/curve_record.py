"""`study.json` of a study of one variable: `kind` is `curve`; the same schema number."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.recipe.record import plain
from service.scaling.report.record import SCHEMA, rows
from service.search.provenance import versions

if TYPE_CHECKING:
    from service.scaling.curve_study import CurveStudy


def curve_record(study: CurveStudy) -> dict[str, Any]:
    """Return what `study.json` holds: plain values; what is unknown or not finite is None."""
    result: dict[str, Any] = plain(
        {
            "schema": SCHEMA,
            "kind": "curve",
            "name": study.name,
            "sentence": study.sentence,
            "x": study.x,
            "y": study.y,
            "increasing": study.increasing,
            "data": {
                "sha256": study.data_sha256,
                "num_points": sum(len(curve.x) for curve in study.curves),
                "notes": list(study.notes),
            },
            "fits": [
                {
                    "by": curve.by,
                    **curve.fit.to_mapping(),
                    "judged": curve.judged,
                    "largest_x": float(curve.x[-1]),
                    "next_gain": curve.next_gain,
                    "gains": rows(curve.gains),
                    "laws": rows(curve.laws),
                }
                for curve in study.curves
            ],
            "versions": versions(),
        }
    )
    return result
