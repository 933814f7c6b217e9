"""`study.plot`: every picture of a study, for a notebook or a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.report.charts.base import Chart, Scheme
from service.scaling.analysis import Analysis
from service.scaling.pictures.all import MAKERS
from service.scaling.pictures.drawing import save
from trainers.errors import ConfigError, ScalingError, nearest

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One chart: a plotly figure to look at, a file to print, and its numbers."""

    chart: Chart

    @property
    def views(self) -> tuple[str, ...]:
        """The names of its views; the first is drawn unless another is asked for."""
        return tuple(label for label, _ in self.chart.views)

    @property
    def table(self) -> pd.DataFrame:
        """The numbers that it shows."""
        return self.chart.table

    def figure(self, view: str | None = None, scheme: Scheme = "light") -> go.Figure:
        """Return a plotly figure."""
        return self.chart.figure(scheme, self._place(view))

    def save(
        self,
        path: str | Path,
        *,
        width_cm: float = 16.0,
        view: str | None = None,
        scheme: Scheme = "light",
    ) -> Path:
        """Write a .png, .svg or .pdf file, drawn by matplotlib; see `drawing.save`.

        Raises:
            ConfigError: another suffix, no such view, or a width outside 3-100 cm.

        """
        figure = self.chart.views[self._place(view)][1]
        return save(figure, path, width_cm=width_cm, scheme=scheme)[0]

    def _place(self, view: str | None) -> int:
        if view is None:
            return 0
        if view not in self.views:
            raise ConfigError(f"the picture `{self.chart.name}` has no view `{view}`"
                              f"{nearest(view, self.views)}")  # fmt: skip
        return self.views.index(view)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Show the plotly figure in a notebook."""
        return self.figure()._repr_mimebundle_(**options)


class Plots:
    """One method per picture: `study.plot.frontier()`, `.isoflop()`, `.returns()`, ..."""

    def __init__(self, analysis: Callable[[], Analysis]) -> None:
        self._analysis = analysis

    def __getattr__(self, name: str) -> Callable[[], Picture]:
        if name not in MAKERS:
            raise AttributeError(f"a study has no picture `{name}`{nearest(name, tuple(MAKERS))}")
        return lambda: self._picture(name)

    def __dir__(self) -> list[str]:
        return list(MAKERS)

    def _picture(self, name: str) -> Picture:
        chart = MAKERS[name](self._analysis())
        if chart is None:
            raise ScalingError(f"there is nothing to draw for `{name}`: this study's points do not "
                               "hold what it shows")  # fmt: skip
        return Picture(chart=chart)
