"""A study's charts, most useful first. Each is a function of `Analysis`."""

from __future__ import annotations

from collections.abc import Callable

from service.report.charts.base import Chart
from service.scaling.analysis import Analysis
from service.scaling.pictures.checks import multiverse_chart, predicted_chart, residuals_chart
from service.scaling.pictures.frontier import frontier_chart, sizes_chart
from service.scaling.pictures.isoflop import isoflop_chart
from service.scaling.pictures.recipes import recipes_chart
from service.scaling.pictures.returns import returns_chart
from service.scaling.pictures.tuned import hyperparameters_chart

MAKERS: dict[str, Callable[[Analysis], Chart | None]] = {
    "frontier": frontier_chart,
    "returns": returns_chart,
    "isoflop": isoflop_chart,
    "sizes": sizes_chart,
    "predicted": predicted_chart,
    "multiverse": multiverse_chart,
    "residuals": residuals_chart,
    "recipes": recipes_chart,
    "hyperparameters": hyperparameters_chart,
}


def all_charts(study: Analysis) -> list[Chart]:
    """Draw what the study has numbers for, most useful first."""
    return [chart for make in MAKERS.values() if (chart := make(study)) is not None]


def file_name(chart: Chart, label: str) -> str:
    """Name a view's file: the chart, and the view where there are several."""
    if len(chart.views) == 1:
        return chart.name
    return f"{chart.name}-{label.replace(' ', '-')}"
