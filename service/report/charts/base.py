"""What a chart is: figures whose colours are names, resolved for light and dark, and a table.

A colour is written `@accent`, and looked up in `COLOURS` when the figure is drawn; so one figure
serves both schemes, and a page can follow its reader's choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from service.report.numbers import short

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

Scheme = Literal["light", "dark"]
Figure = dict[str, Any]
"""A plotly figure as JSON: {"data": [...], "layout": {...}}."""

COLOURS: dict[Scheme, dict[str, str]] = {
    "light": {
        "ink": "#1b1e24", "muted": "#5d6470", "faint": "#b9bfc9", "grid": "#e7e9ee",
        "panel": "#ffffff", "page": "#f6f6f3", "accent": "#0b6e69", "best": "#d1490b",
        "wash": "#0b6e6922", "bad": "#b3261e", "good": "#1e7d45",
        "s0": "#8b93a1", "s1": "#3b6fb6", "s2": "#0b6e69", "s3": "#7a5195", "s4": "#b58900",
        "s5": "#a23b72", "s6": "#557a2b",
        "low": "#0b6e69", "mid": "#d9c26a", "high": "#c9ced6",
    },
    "dark": {
        "ink": "#eceef1", "muted": "#a2a9b5", "faint": "#4a525e", "grid": "#2a3038",
        "panel": "#181c22", "page": "#101317", "accent": "#4cc3ba", "best": "#ff9457",
        "wash": "#4cc3ba2e", "bad": "#ff8a80", "good": "#6fd08c",
        "s0": "#8e97a6", "s1": "#7fb0f0", "s2": "#4cc3ba", "s3": "#c19be0", "s4": "#e0b94d",
        "s5": "#ec8fbc", "s6": "#a6cf75",
        "low": "#4cc3ba", "mid": "#b59a3c", "high": "#3a424d",
    },
}  # fmt: skip

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One question, answered by one or more views of the same numbers."""

    name: str
    """A word for anchors and file names."""
    title: str
    note: str
    """What to see in it, and how it was made."""
    views: tuple[tuple[str, Figure], ...]
    """(label, figure); the first is shown."""
    table: pd.DataFrame
    """The same numbers, for those who cannot or do not want to see the picture."""
    wide: bool = False
    """Needs room sideways: scrolls on narrow screens instead of shrinking."""

    def figure(self, scheme: Scheme = "light", view: int = 0) -> go.Figure:
        """Return a plotly figure with its colours resolved."""
        import plotly.graph_objects as go

        return go.Figure(resolved(self.views[view][1], scheme))


def resolved(value: Any, scheme: Scheme) -> Any:
    """Replace `@name` by the scheme's colour everywhere in a figure."""
    if isinstance(value, dict):
        return {key: resolved(item, scheme) for key, item in value.items()}
    if isinstance(value, list):
        return [resolved(item, scheme) for item in value]
    if isinstance(value, str) and value.startswith("@"):
        return COLOURS[scheme][value[1:]]
    return value


def layout(*, height: int, x: str = "", y: str = "", **more: Any) -> dict[str, Any]:
    """Return the layout that all charts share, with axis titles and what `more` adds."""
    base: dict[str, Any] = {
        "height": height,
        "margin": {"l": 60, "r": 16, "t": 34, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": "@ink"},
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "xanchor": "left",
                   "font": {"size": 12, "color": "@muted"}},
        "xaxis": axis(x),
        "yaxis": axis(y),
        "hovermode": "closest",
    }  # fmt: skip
    for key, value in more.items():
        base[key] = base[key] | value if isinstance(base.get(key), dict) else value
    return base


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return one axis: a quiet grid, no zero line."""
    return {
        "title": {"text": title, "font": {"size": 12, "color": "@muted"}, "standoff": 8},
        "gridcolor": "@grid",
        "linecolor": "@faint",
        "tickcolor": "@faint",
        "tickfont": {"size": 12, "color": "@muted"},
        "zeroline": False,
        "automargin": True,
        **more,
    }


def log_axis(title: str, values: Sequence[float]) -> dict[str, Any]:
    """Return a logarithmic axis labelled at decades or 1-2-5 steps; linear under a factor of 5."""
    positive = [v for v in values if v is not None and math.isfinite(v) and v > 0]
    if not positive or max(positive) < 5 * min(positive):
        return axis(title)
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    steps = (1,) if high - low > 2 else (1, 2, 5)
    ticks = [s * 10.0**e for e in range(low, high + 1) for s in steps]
    return axis(title, type="log", tickvals=ticks, ticktext=[short(t) for t in ticks])


def json_numbers(values: Sequence[Any]) -> list[Any]:
    """Return plain numbers for a figure: what is not finite becomes None, a gap."""
    plain = [v.item() if hasattr(v, "item") else v for v in values]
    return [None if isinstance(v, float) and not math.isfinite(v) else v for v in plain]
