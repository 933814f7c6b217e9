"""The report's main picture as PNG, SVG or PDF, drawn by matplotlib: no browser is needed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.report.charts.base import COLOURS, Scheme
from service.report.charts.history import round_name
from service.report.facts import Facts
from service.report.numbers import energy
from service.report.verdict import answer, sentence
from service.search.objectives import incumbents

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INCHES = (11.0, 4.4)


def save_picture(facts: Facts, path: str | Path, scheme: Scheme = "light") -> Path:
    """Draw the search closing in, beside the winner's learning curves; the suffix is the format.

    Args:
        facts: the search.
        path: file to write, e.g. `report.png`.
        scheme: light or dark.

    Raises:
        OSError: if the file cannot be written.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = COLOURS[scheme]
    figure = Figure(figsize=INCHES, dpi=160, facecolor=colours["panel"], layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1], sharey=True)
    for axes in (left, right):
        _style(axes, colours)
    _history(left, facts, colours)
    _curves(right, facts, colours)
    title = f"{facts.search.search_id}: {sentence(answer(facts))}"
    if facts.accounts is not None and facts.site is not None:
        title += f"; {energy(facts.accounts.own_kwh * facts.site.pue)}"
    figure.suptitle(title, x=0.012, ha="left", fontsize=11.5, weight="bold", color=colours["ink"])
    target = Path(path)
    figure.savefig(target, facecolor=colours["panel"])
    return target


def _history(axes: Axes, facts: Facts, colours: dict[str, str]) -> None:
    metric = facts.objective.metric
    for number, record in enumerate(facts.search_rounds):
        members = [
            t for t in facts.candidates
            if t.round == record.round and math.isfinite(facts.value(t))
        ]  # fmt: skip
        colour = colours[f"s{1 + number % 6}"]
        for complete, face in ((True, colour), (False, "none")):
            some = [t for t in members if (t.state == "complete") == complete]
            axes.scatter(
                [t.trial_id for t in some], [facts.value(t) for t in some], s=18,
                facecolors=face, edgecolors=colour, linewidths=1.0, alpha=0.8,
            )  # fmt: skip
        best = incumbents(
            (facts.value(t) if t.state == "complete" else math.nan for t in members),
            facts.objective,
        )
        axes.step([t.trial_id for t in members], best, where="post", color=colour, linewidth=2,
                  label=round_name(record))  # fmt: skip
    if facts.baseline is not None:
        axes.axhline(facts.baseline.mean, color=colours["muted"], linestyle=":", linewidth=1.2,
                     label="baseline")  # fmt: skip
    if facts.best is not None:
        axes.axhline(facts.best.mean, color=colours["best"], linewidth=1.5, label="winner")
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    values = [facts.value(t) for t in facts.candidates if math.isfinite(facts.value(t))]
    if values and min(values) > 0:
        _log_scale(axes)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=colours["muted"], loc="upper right")


def _curves(axes: Axes, facts: Facts, colours: dict[str, str]) -> None:
    metric = facts.objective.metric
    axes.set_xlabel("epoch")
    if metric not in facts.curves or facts.best is None:
        return
    best = {trial.trial_id for trial in facts.best.trials}
    candidates = {trial.trial_id for trial in facts.candidates}
    for trial_id, curve in facts.curves.groupby("trial_id"):
        if trial_id in best:
            axes.plot(curve["epoch"], curve[metric], color=colours["best"], linewidth=2, zorder=3)
        elif trial_id in candidates:
            axes.plot(curve["epoch"], curve[metric], color=colours["faint"], linewidth=0.7)


def _log_scale(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _style(axes: Any, colours: dict[str, str]) -> None:
    axes.set_facecolor(colours["panel"])
    axes.grid(color=colours["grid"], linewidth=0.8)
    axes.set_axisbelow(True)
    for name, spine in axes.spines.items():
        spine.set_visible(name in ("left", "bottom"))
        spine.set_color(colours["faint"])
    axes.tick_params(colors=colours["muted"], labelsize=9, which="both")
    axes.xaxis.label.set_color(colours["muted"])
    axes.yaxis.label.set_color(colours["muted"])
