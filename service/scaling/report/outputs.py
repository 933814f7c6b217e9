"""A study's folder: the page, `study.json`, Parquet tables, and pictures in three formats."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from service.report.charts.base import Chart
from service.report.files import write_frame, write_text
from service.scaling.analysis import Analysis
from service.scaling.curve_study import CurveStudy
from service.scaling.pictures.all import all_charts, file_name
from service.scaling.pictures.curves import curve_charts
from service.scaling.pictures.drawing import FORMATS, save
from service.scaling.report.page import render_curves, render_page
from service.scaling.report.record import STUDY_NAME, record
from trainers.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class StudyOutputs:
    """Where the files of one study lie."""

    directory: Path
    report: Path
    record: Path
    tables: tuple[Path, ...]
    pictures: tuple[Path, ...]


def write_study(study: Analysis, out_dir: str | Path) -> StudyOutputs:
    """Write everything a reader may want of a study into its folder.

    Files are written beside their place and moved there; pictures lie in `pictures/`.

    Raises:
        ConfigError: the folder cannot be written.

    """
    directory = Path(out_dir)
    charts = all_charts(study)
    return _write(directory, record(study), render_page(study, charts), _tables(study), charts)


def write_curves(study: CurveStudy, out_dir: str | Path) -> StudyOutputs:
    """Write the same of a study of one variable; see `write_study`."""
    charts = curve_charts(study)
    tables = {chart.name: chart.table for chart in charts}
    tables["laws"] = pd.concat([curve.laws.assign(by=curve.by) for curve in study.curves])
    page = render_curves(study, charts)
    return _write(Path(out_dir), study.record(), page, tables, charts)


def _write(
    directory: Path,
    mapping: Mapping[str, Any],
    page: str,
    tables: Mapping[str, pd.DataFrame],
    charts: Sequence[Chart],
) -> StudyOutputs:
    try:
        (directory / "pictures").mkdir(parents=True, exist_ok=True)
        text = json.dumps(mapping, indent=1, allow_nan=False)
        written = StudyOutputs(
            directory=directory,
            report=write_text(directory / "report.html", page),
            record=write_text(directory / STUDY_NAME, text + "\n"),
            tables=tuple(
                write_frame(directory / f"{name}.parquet", frame) for name, frame in tables.items()
            ),
            pictures=tuple(
                path
                for chart in charts
                for label, figure in chart.views
                for path in save(figure, *_files(directory, file_name(chart, label)))
            ),
        )
    except OSError as error:
        raise ConfigError(
            f"the output folder must be writable, but {error.filename or directory} is not "
            f"({error.strerror}); choose another with `--out`"
        ) from error
    return written


def _files(directory: Path, name: str) -> list[Path]:
    return [directory / "pictures" / f"{name}.{suffix}" for suffix in FORMATS]


def _tables(study: Analysis) -> dict[str, pd.DataFrame]:
    tables: dict[str, pd.DataFrame | None] = {
        "points": study.points.frame,
        "frontier": study.curve.frame,
        "marginal": pd.concat([answer.frame for answer in study.returns], ignore_index=True),
        "off_optimal": study.off_optimal.frame,
        "residuals": study.residuals,
        "draws": study.fit.joint.bootstrap,
        "heldout": None if study.fit.heldout is None else study.fit.heldout.errors,
        "isoflop": None if study.isoflop is None else study.isoflop.minima,
        "multiverse": study.multiverse,
        "leverage": study.leverage,
    }
    return {name: frame for name, frame in tables.items() if frame is not None}
