"""The few marks that a study's pictures are made of, as plotly traces with named colours.

`drawing.py` draws the same traces with matplotlib, so a page and a file never differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from service.report.charts.base import Figure, json_numbers, log_axis
from service.report.numbers import short

if TYPE_CHECKING:
    import pandas as pd

    Values = Sequence[float] | np.ndarray | pd.Series[Any]


MOST_DOTS = 2_000
"""More dots hide each other, and make a page of megabytes; the tables hold all."""


def plain(values: Values) -> list[Any]:
    """Return plain numbers for JSON; what is not finite becomes a gap."""
    return json_numbers(np.asarray(values, dtype=float).tolist())


def dots(
    x: Values, y: Values, name: str, colour: str, *, symbol: str = "circle", size: float = 6,
    opacity: float = 1.0, text: Sequence[str] | None = None, legend: bool = True,
) -> Figure:  # fmt: skip
    """Return points, at most `MOST_DOTS` of them.

    `symbol` is circle, circle-open, star, diamond, triangle-up-open or x.
    """
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_DOTS)).astype(int))
    trace: Figure = {
        "type": "scatter", "mode": "markers", "name": name,
        "x": plain(np.asarray(x, dtype=float)[kept]), "y": plain(np.asarray(y, dtype=float)[kept]),
        "marker": {"color": colour, "size": size, "symbol": symbol, "opacity": opacity,
                   "line": {"color": colour, "width": 1.5}},
        "showlegend": legend,
        "hovertemplate": "%{x:.3g}, %{y:.4g}<extra>" + name + "</extra>",
    }  # fmt: skip
    if text is not None:
        trace |= {
            "text": [text[i] for i in kept],
            "hovertemplate": "%{text}<extra>" + name + "</extra>",
        }
    return trace


def line(
    x: Values, y: Values, name: str, colour: str, *, dash: str = "solid", width: float = 2,
    legend: bool = True,
) -> Figure:  # fmt: skip
    """Return a line; `dash` is solid, dash or dot."""
    return {
        "type": "scatter", "mode": "lines", "name": name, "x": plain(x), "y": plain(y),
        "line": {"color": colour, "width": width, "dash": dash}, "showlegend": legend,
        "hovertemplate": "%{x:.3g}, %{y:.4g}<extra>" + name + "</extra>",
    }  # fmt: skip


def band(x: Values, low: Values, high: Values, name: str, colour: str = "@wash") -> list[Figure]:
    """Return a filled band between two curves; nothing where either end is unknown."""
    xs, lows, highs = (np.asarray(v, dtype=float) for v in (x, low, high))
    known = np.isfinite(lows) & np.isfinite(highs)
    if known.sum() < 2:
        return []
    xs, lows, highs = xs[known], lows[known], highs[known]
    return [{
        "type": "scatter", "mode": "lines", "name": name, "fill": "toself", "fillcolor": colour,
        "x": plain(np.concatenate([xs, xs[::-1]])), "y": plain(np.concatenate([highs, lows[::-1]])),
        "line": {"color": colour, "width": 0}, "hoverinfo": "skip", "showlegend": True,
    }]  # fmt: skip


def bars(
    x: Values, y: Values, low: Values, high: Values, name: str, colour: str, *,
    across: bool = False, symbol: str = "circle",
) -> Figure:  # fmt: skip
    """Return points with intervals, vertical or (`across`) horizontal; unknown ends show none."""
    trace = dots(x, y, name, colour, symbol=symbol, size=7)
    middle = np.asarray(x if across else y, dtype=float)
    up, down = (np.nan_to_num(np.asarray(end, dtype=float) - middle) for end in (high, low))
    trace["error_x" if across else "error_y"] = {
        "type": "data", "symmetric": False, "array": plain(np.maximum(up, 0)),
        "arrayminus": plain(np.maximum(-down, 0)), "color": colour, "thickness": 1.2, "width": 3,
    }  # fmt: skip
    return trace


def log_ticks(title: str, values: Values, *, most: int = 8) -> dict[str, Any]:
    """Return a logarithmic axis with at most `most` labels inside the values' range.

    Decades are labelled, or 1-2-5 steps where there are few; it is linear under a factor of 5.
    """
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite) & (finite > 0)]
    wanted = log_axis(title, [float(v) for v in finite])
    if "tickvals" not in wanted:
        return wanted
    low, high = float(finite.min()) * 0.99, float(finite.max()) * 1.01
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [s * 10.0**e for e in decades for s in (1, 2, 5) if low <= s * 10.0**e <= high]
    if len(ticks) > most:
        ticks = [tick for tick in ticks if f"{tick:.0e}".startswith("1")]
    ticks = ticks[:: -(-len(ticks) // most)]
    return wanted | {"tickvals": ticks, "ticktext": [short(tick) for tick in ticks]}
