"""Write what was measured as JSON and as a Markdown table that the README quotes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import in_one_line

FOLDER = Path(__file__).with_name("results")


def save(
    what: str,
    machine: Mapping[str, Any],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    raw: Any,
    remarks: Sequence[str] = (),
) -> Path:
    """Write `results/<date>-<what>.json` and `.md`; return the latter.

    Args:
        what: short name of the benchmark.
        machine: as `describe_machine` gives it.
        tables: heading -> rows, each a mapping of column -> value.
        raw: every single measurement.
        remarks: what a reader must know to read the numbers rightly.

    """
    FOLDER.mkdir(exist_ok=True)
    stem = FOLDER / f"{machine['date']}-{what}"
    content = {"machine": dict(machine), "tables": tables, "remarks": list(remarks), "raw": raw}
    stem.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
    parts = [f"# {what}", in_one_line(dict(machine))]
    for heading, rows in tables.items():
        parts += [f"## {heading}", markdown(rows)]
    if remarks:
        parts += ["\n".join(f"- {remark}" for remark in remarks)]
    path = stem.with_suffix(".md")
    path.write_text("\n\n".join(parts) + "\n")
    return path


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a Markdown table."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(c, "")) for c in columns) + " |" for row in rows]
    return "\n".join(lines)


def median_and_range(values: Sequence[float]) -> str:
    """Return e.g. `8.1 (7.9-8.4)`: the median, and the smallest and the largest value."""
    middle = statistics.median(values)
    if len(values) == 1:
        return _number(middle)
    return f"{_number(middle)} ({_number(min(values))}-{_number(max(values))})"


def _cell(value: Any) -> str:
    return _number(value) if isinstance(value, float) else str(value)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
