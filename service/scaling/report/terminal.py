"""Studies in the terminal: the sentence, the frontier, exponents and trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.report.numbers import duration, setting, short
from service.scaling.analysis import Analysis
from service.scaling.report.page import exponents, trust
from service.scaling.report.record import STUDY_NAME, record, rows
from trainers.errors import ScalingError

if TYPE_CHECKING:
    from service.ledger import Ledger
    from service.ledger.records import SearchRecord
    from service.scaling.curve_study import CurveStudy

FRONTIER_COLUMNS = ("flops", "params", "tokens", "loss", "loss_low", "loss_high", "kwh", "kgco2e")


def analysis_view(study: Analysis) -> tuple[dict[str, Any], RenderableType]:
    """Return what `study.json` holds, and the same for the terminal."""
    shown = study.frontier.frame[list(FRONTIER_COLUMNS)].dropna(axis=1, how="all")
    facts = Table.grid(padding=(0, 2))
    for label, value, note in [*exponents(study), *trust(study)]:
        facts.add_row(label, Text(value, style="bold"), Text(note, style="dim"))
    parts: list[RenderableType] = [Text(study.sentence, style="bold"), Text("")]
    parts += [frame_table(shown), Text(""), facts]
    parts += [Text(found.sentence) for found in study.comparisons]
    parts += [Text(f"! {text}", style="yellow") for text in study.warnings]
    return record(study), Group(*parts)


def curve_view(study: CurveStudy) -> RenderableType:
    """Return the gains per doubling of a study of one variable for the terminal."""
    gains = pd.concat([curve.gains.assign(by=curve.by) for curve in study.curves])
    if len(study.curves) == 1:
        gains = gains.drop(columns="by")
    parts: list[RenderableType] = [Text(study.sentence, style="bold"), Text(""), frame_table(gains)]
    parts += [Text(f"! {w}", style="yellow") for curve in study.curves for w in curve.fit.warnings]
    return Group(*parts)


def study_sentence(search: SearchRecord) -> str:
    """Return the answer of a ledger's study as its folder has it, without fitting again."""
    found = _written(search)
    return str(found["sentence"]) if found else f"a study, {search.state}: no law fitted yet"


def study_detail(ledger: Ledger, study_id: str) -> tuple[dict[str, Any], RenderableType]:
    """Return a ledger's study for `--json` and for the terminal, from its present points.

    Raises:
        LedgerError: there is no such study.

    """
    from service.scaling.study import ScalingStudy

    search = ledger.search(study_id)
    counts = pd.Series([trial.state for trial in ledger.trials(study_id)]).value_counts()
    trials = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no trials yet"
    head = Text(
        f"{study_id}: {search.state.replace('_', ' ')}, {duration(search.seconds)}, {trials}"
    )
    parts: list[RenderableType] = [head]
    parts += [
        Text(f"! {event.payload['text']}", style="yellow")
        for event in ledger.events(study_id, "warning")
    ]
    try:
        data, picture = analysis_view(ScalingStudy.open(study_id, ledger=ledger).analysis())
        parts.append(picture)
    except ScalingError as error:
        data = {"kind": "study", "fits": []}
        parts.append(Text(str(error), style="yellow"))
    if search.out_dir and (Path(search.out_dir) / "report.html").exists():
        parts.append(Text(f"report: {Path(search.out_dir) / 'report.html'}"))
    about = {"study_id": study_id, "state": search.state, "reason": search.reason,
             "trials": {str(state): int(count) for state, count in counts.items()}}  # fmt: skip
    return {**about, **data}, Group(*parts)


def plan_table(rows: pd.DataFrame) -> Table:
    """Draw what a study would train, in the columns that fit a terminal; `--json` has them all."""
    shown = rows[["recipe", "size", "params", "purpose", "budget_flops", "updates", "trials"]]
    if not shown["recipe"].any():
        shown = shown.drop(columns="recipe")
    return frame_table(
        shown.assign(
            time=[duration(hours * 3600) for hours in rows["hours"]],
            kwh=[short(kwh, 2) for kwh in rows["kwh"]],
        )
    )


def frame_table(frame: pd.DataFrame) -> Table:
    """Draw a table with short numbers."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in frame.columns:
        table.add_column(str(name).replace("_", " "), overflow="fold")
    for row in rows(frame):
        table.add_row(*(_cell(value) for value in row.values()))
    return table


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "–" if value != value else short(value, 4)
    return setting(value)


def _written(search: SearchRecord) -> dict[str, Any] | None:
    try:
        text = (Path(search.out_dir or "") / STUDY_NAME).read_text(encoding="utf-8")
        found = json.loads(text)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "sentence" in found else None
