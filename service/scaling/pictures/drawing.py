"""Pictures as PNG, SVG or PDF: the traces of `marks.py` drawn by matplotlib, without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.report.charts.base import COLOURS, Figure, Scheme, resolved
from trainers.errors import ConfigError, nearest

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NARROW_CHARS, WIDE_CHARS = 58, 108
"""Characters of a legend's type that fit a column of a paper, and the default width."""
HANDLE_CHARS = 6
FORMATS = ("png", "svg", "pdf")
NARROW_CM = 12.0
"""Below this width, a column of a paper: smaller type and thinner marks."""
HEIGHT = 0.72
"""Height over width."""
UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
SYMBOLS = {
    "circle": "o", "circle-open": "o", "star": "*", "diamond": "D", "triangle-up-open": "^",
    "x": "x",
}  # fmt: skip
DASHES = {"solid": "-", "dash": "--", "dot": ":"}


def save(
    figure: Figure, *paths: str | Path, width_cm: float = 16.0, scheme: Scheme = "light"
) -> list[Path]:
    """Draw a figure once, into one or more files; the suffix is the format.

    Args:
        figure: of `marks.py`'s traces and `layout`'s axes.
        paths: files ending in .png, .svg or .pdf; their folders must exist.
        width_cm: e.g. 8.5 for a column of a paper.
        scheme: light or dark.

    Raises:
        ConfigError: another suffix, a width outside 3-100 cm, or a file that cannot be written.

    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas

    targets = [Path(path) for path in paths]
    for target in targets:
        suffix = target.suffix.removeprefix(".").lower()
        if suffix not in FORMATS:
            raise ConfigError(f"a picture must end in .png, .svg or .pdf, but got `{target.name}`"
                              f"{nearest(suffix, FORMATS)}")  # fmt: skip
    if not 3.0 <= width_cm <= 100.0:
        raise ConfigError(f"width_cm must be within 3 to 100, but got {width_cm!r}; e.g. 8.5")
    colours = COLOURS[scheme]
    inches = (width_cm / 2.54, HEIGHT * width_cm / 2.54)
    # Type 42 keeps letters as letters, which journals ask for; a fixed salt and no date make the
    # same study give the same bytes.
    with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "isoflop"}):
        canvas = Canvas(figsize=inches, dpi=200, facecolor=colours["panel"], layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.subplots()
        _draw(axes, resolved(figure, scheme), colours, narrow=width_cm < NARROW_CM)
        canvas.draw_without_rendering()
        canvas.set_layout_engine("none")  # laid out now: not again for each file
        for target in targets:
            undated = UNDATED.get(target.suffix)
            try:
                canvas.savefig(target, facecolor=colours["panel"], metadata=undated)
            except OSError as error:
                raise ConfigError(
                    f"a picture's folder must exist and be writable, but {target} cannot be "
                    f"written ({error.strerror}); choose another"
                ) from error
    return targets


def _draw(axes: Axes, figure: Figure, colours: dict[str, str], *, narrow: bool) -> None:
    scale = 0.6 if narrow else 0.85
    for trace in figure["data"]:
        if trace.get("fill") == "toself":
            _band(axes, trace)
        else:
            _marks(axes, trace, scale)
    _style(axes, figure["layout"], colours, small=7.0 if narrow else 9.0)
    handles, labels = axes.get_legend_handles_labels()
    if handles and figure["layout"].get("showlegend", True):
        axes.figure.legend(
            handles, labels, loc="outside upper left", frameon=False,
            ncols=_columns(labels, narrow=narrow),
            fontsize=6.0 if narrow else 8.0, labelcolor=colours["muted"], handletextpad=0.5,
            columnspacing=1.2, handlelength=1.6,
        )  # fmt: skip


def _columns(labels: list[str], *, narrow: bool) -> int:
    """Return how many of the longest labels fit beside each other, with their handles."""
    room = NARROW_CHARS if narrow else WIDE_CHARS
    return max(1, min(4, room // (max(map(len, labels)) + HANDLE_CHARS)))


def _band(axes: Axes, trace: Figure) -> None:
    axes.fill(trace["x"], trace["y"], color=_rgba(trace["fillcolor"]), linewidth=0,
              label=trace["name"], zorder=1)  # fmt: skip


def _marks(axes: Axes, trace: Figure, scale: float) -> None:
    label = trace["name"] if trace.get("showlegend", True) else None
    x, y = _gaps(trace["x"]), _gaps(trace["y"])
    if trace["mode"] == "lines":
        stroke = trace["line"]
        axes.plot(x, y, color=stroke["color"], linewidth=scale * stroke["width"],
                  linestyle=DASHES[stroke["dash"]], label=label, zorder=2)  # fmt: skip
        return
    marker = trace["marker"]
    hollow = marker["symbol"].endswith("-open")
    for side in ("x", "y"):
        if f"error_{side}" in trace:
            ends = trace[f"error_{side}"]
            reach: dict[str, Any] = {f"{side}err": [ends["arrayminus"], ends["array"]]}
            axes.errorbar(x, y, fmt="none", ecolor=ends["color"], elinewidth=scale, **reach)
    face = {"facecolors": "none", "edgecolors": marker["color"]} if hollow else {
        "color": marker["color"]
    }  # fmt: skip
    axes.scatter(
        x, y, s=(scale * marker["size"]) ** 2, marker=SYMBOLS[marker["symbol"]],
        alpha=marker["opacity"], linewidths=scale if hollow else 0.6 * scale, label=label,
        zorder=3, **face,
    )  # fmt: skip


def _gaps(values: list[Any]) -> list[float]:
    return [float("nan") if value is None else value for value in values]


def _rgba(colour: str) -> tuple[float, float, float, float]:
    from matplotlib.colors import to_rgba

    return to_rgba(colour)


def _style(axes: Axes, layout: dict[str, Any], colours: dict[str, str], *, small: float) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    for side, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        wanted = layout[f"{side}axis"]
        getattr(axes, f"set_{side}label")(wanted["title"]["text"], fontsize=small,
                                          color=colours["muted"])  # fmt: skip
        limits = getattr(axes, f"get_{side}lim")()
        if wanted.get("type") == "log":
            getattr(axes, f"set_{side}scale")("log")
            limits = getattr(axes, f"get_{side}lim")()
        if "tickvals" in wanted:
            shown = [
                (v, t) for v, t in zip(wanted["tickvals"], wanted["ticktext"], strict=True)
                if limits[0] <= v <= limits[1]
            ]  # fmt: skip
            axis.set_major_locator(FixedLocator([v for v, _ in shown]))
            axis.set_major_formatter(FixedFormatter([t for _, t in shown]))
            axis.set_minor_locator(NullLocator())
    axes.set_facecolor(colours["panel"])
    axes.grid(color=colours["grid"], linewidth=0.6)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(colours["faint"])
    axes.tick_params(colors=colours["muted"], labelsize=small - 0.5, which="both")
