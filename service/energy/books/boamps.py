"""A statement as a BoAmps report (Boavizta's format for the energy of AI work).

Each row of the statement becomes one measure; the classes are CodeCarbon's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from codecarbon.output_methods.boamps.models import (
    BoAmpsAlgorithm,
    BoAmpsEnvironment,
    BoAmpsHeader,
    BoAmpsMeasure,
    BoAmpsPublisher,
    BoAmpsReport,
    BoAmpsSoftware,
    BoAmpsTask,
)

from service.energy.books.statement import Row, Statement
from service.search.provenance import versions

FORMAT_VERSION = "1.1.0"
FORMAT_URI = "https://github.com/Boavizta/BoAmps/tree/main/model"


def boamps_report(statement: Statement, *, name: str) -> dict[str, Any]:
    """Return the report as plain values in the format's own spelling; `name` is its id."""
    known = versions()
    location, kwh = statement.total.kgco2e_location, statement.total.kwh_with_pue
    report = BoAmpsReport(
        header=BoAmpsHeader(
            format_version=FORMAT_VERSION,
            format_version_specification_uri=FORMAT_URI,
            report_id=name,
            report_datetime=_iso(statement.to_unix_s),
            report_status="final",
            publisher=BoAmpsPublisher(confidentiality_level="internal"),
        ),
        task=BoAmpsTask(
            task_stage="training",
            task_family="hyperparameter search",
            nb_request=float(statement.total.trials),
            algorithms=[
                BoAmpsAlgorithm(
                    training_type="supervisedLearning",
                    framework="torch",
                    framework_version=known["torch"],
                )
            ],
            task_description=f"{statement.total.searches} searches with {statement.total.trials} "
            f"trials, failed and pruned ones included, by {', '.join(statement.by)}",
        ),
        measures=[_measure(row, statement) for row in statement.rows],
        software=BoAmpsSoftware(language="python", version=known["python"]),
        environment=BoAmpsEnvironment(
            power_source_carbon_intensity=None
            if location is None or kwh == 0
            else 1000 * location / kwh,
        ),
        quality="medium" if (statement.total.measured_share or 0) > 0.5 else "low",
    )
    found: dict[str, Any] = report.to_dict()
    return found


def _measure(row: Row, statement: Statement) -> BoAmpsMeasure:
    group = ", ".join(f"{key} {value}" for key, value in row.group.items())
    return BoAmpsMeasure(
        measurement_method=f"codecarbon, attributed per search by isoflop: {group}",
        manufacturer="isoflop",
        version=versions()["isoflop"],
        power_consumption=row.kwh,
        measurement_duration=statement.to_unix_s - statement.from_unix_s,
        measurement_date_time=_iso(statement.from_unix_s),
    )


def _iso(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
