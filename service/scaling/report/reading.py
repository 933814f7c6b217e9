"""Read a study back from its folder: `study.json` and the tables beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from service.scaling.curve_study import CurveStudy
from service.scaling.points import Points
from service.scaling.report.record import SCHEMA, STUDY_NAME
from service.scaling.study import ScalingStudy
from trainers.errors import ConfigError


def read_study(path: str | Path) -> ScalingStudy:
    """Return the study of a folder, fitted as it was when it was written.

    The fit is made again from `points.parquet` with the recorded law, method, resamples and seed,
    which gives the same numbers under the same versions.

    Args:
        path: the folder, or its `study.json`.

    Raises:
        ConfigError: a file is missing, is no study's, or is of a newer schema.

    """
    file = Path(path)
    file = file / STUDY_NAME if file.is_dir() else file
    mapping = _mapping(file)
    data, first = mapping["data"], mapping["fits"][0]
    if mapping["kind"] != "study":
        raise ConfigError(
            f"budgets are predicted from a loss over size and data, but {file} is of "
            f"{mapping['y']} over {mapping['x']}; ask at {mapping['x']}: --at VALUE"
        )
    points = Points(
        frame=_points_frame(file, "points.parquet"),
        notes=tuple(data["notes"]),
        flops_per_param_token=data["flops_per_param_token"],
        metric=mapping["metric"],
        count=data["count_params"],
        data_sha256=data["sha256"],
    )
    study = ScalingStudy(points, name=mapping["name"], confidence=mapping["confidence"])
    study.fit(
        first["law"],
        bootstrap=first["num_bootstraps"],
        method=first["method"],
        unique_tokens=mapping["unique_tokens"],
        seed=mapping["seed"],
    )
    return study.with_energy(kwh_per_flop=mapping["energy"]["kwh_per_flop"])


def read_curves(path: str | Path) -> CurveStudy:
    """Open a study of one variable that was written into a folder; its law is chosen again.

    Args:
        path: the folder, or its `study.json`.

    Raises:
        ConfigError: a file is missing, is no such study's, or is of a newer schema.

    """
    file = Path(path)
    file = file / STUDY_NAME if file.is_dir() else file
    mapping = _mapping(file)
    if mapping["kind"] != "curve":
        raise ConfigError(
            f"{file} is a study of size and data, which is asked at budgets: --flops 1e20"
        )
    return CurveStudy(
        _points_frame(file, "curve.parquet"),
        x=mapping["x"],
        y=mapping["y"],
        by="by",
        increasing=mapping["increasing"],
        name=mapping["name"],
        data_sha256=mapping["data"]["sha256"],
        notes=tuple(mapping["data"]["notes"]),
    )


def _mapping(file: Path) -> dict[str, Any]:
    try:
        mapping = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"a study's folder holds {STUDY_NAME}, but {file} cannot be read ({error.strerror}); "
            "write it with `isoflop scale fit` or `isoflop report`"
        ) from None
    except ValueError:
        raise ConfigError(f"{file} is no JSON; write it again") from None
    if not isinstance(mapping, dict) or "schema" not in mapping or "fits" not in mapping:
        raise ConfigError(f"{file} is no study's record; name the {STUDY_NAME} of a study's folder")
    if mapping["schema"] > SCHEMA:
        raise ConfigError(
            f"{file} has schema {mapping['schema']}, and this version reads up to {SCHEMA}; "
            "update isoflop"
        )
    return mapping


def _points_frame(file: Path, name: str) -> pd.DataFrame:
    table = file.parent / name
    try:
        return pd.read_parquet(table)
    except OSError as error:
        raise ConfigError(
            f"{STUDY_NAME} needs the points beside it, but {table} cannot be read "
            f"({error.strerror}); keep the folder together, or write it again"
        ) from None
