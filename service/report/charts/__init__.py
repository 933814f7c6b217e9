"""The report's charts, most useful first. Each is a function of `Facts`."""

from collections.abc import Callable

from service.report.charts.base import Chart, resolved
from service.report.charts.costs import energy_breakdown, error_against_energy
from service.report.charts.history import history, learning_curves
from service.report.charts.importance import importance
from service.report.charts.parallel import parallel
from service.report.charts.rules import learning_rules
from service.report.charts.shrinking import shrinking
from service.report.charts.slices import slices
from service.report.charts.sweep import lr_sweep
from service.report.facts import Facts

MAKERS: tuple[Callable[[Facts], Chart | None], ...] = (
    history,
    learning_curves,
    parallel,
    shrinking,
    importance,
    slices,
    learning_rules,
    error_against_energy,
    energy_breakdown,
    lr_sweep,
)


def all_charts(facts: Facts) -> list[Chart]:
    """Draw what the search has numbers for, most useful first."""
    return [chart for make in MAKERS if (chart := make(facts)) is not None]


__all__ = ["MAKERS", "Chart", "all_charts", "resolved"]
