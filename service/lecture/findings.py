"""What a page found: a table, named measures, and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.report.charts.base import COLOURS
from trainers.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import nn

    from service.search.spec import SearchSpec

PALETTE = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4b5563")


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The outcome of one way of running a page."""

    table: pd.DataFrame
    """The numbers of the picture, one row per point, curve or case."""
    measures: Mapping[str, float | str]
    """Named results; a page's claims refer to them."""
    figure: Figure
    also: Mapping[str, Findings] = field(default_factory=dict)
    """Further pictures with their own tables, by name; their measures stand in `measures` too."""


@dataclass(frozen=True, kw_only=True)
class SearchRun:
    """One spec's search, as a page's picture sees it."""

    spec: SearchSpec
    search_id: str
    ledger_url: str
    trials: pd.DataFrame
    """The rounds' trials, one row each, params as `param.<path>`; no finalists."""
    curves: pd.DataFrame
    """One row per trial and epoch, with the trial's params beside the metrics."""

    def modules(self) -> list[nn.Module]:
        """Return the trained module of each row of `trials`."""
        from service.ledger import Ledger
        from trainers.config import TrialConfig
        from trainers.data import load
        from trainers.lanes.evaluation import to_module
        from trainers.trial import Trial

        ids = [int(trial_id) for trial_id in self.trials["trial_id"]]
        with Ledger.open(self.ledger_url) as ledger:
            records = {t.trial_id: t for t in ledger.trials(self.search_id, trial_ids=ids)}
            refs = ledger.checkpoints(self.search_id, ids)
        trials = [
            Trial(
                trial_id=trial_id,
                config=TrialConfig.model_validate(dict(records[trial_id].config)),
                seed=records[trial_id].seed,
            )
            for trial_id in ids
        ]
        return [to_module(refs[trial.trial_id], trial, load(trial.config.data)) for trial in trials]

    def by(self, *paths: str) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
        """Yield (values, curve) of each trial in the space's order; a fixed path has one value."""
        found = [
            (tuple(self._value(curve.iloc[0], path) for path in paths), curve.sort_values("epoch"))
            for _, curve in self.curves.groupby("trial_id", sort=True)
        ]
        return sorted(found, key=lambda pair: self._place(paths, pair[0]))

    def _place(self, paths: Sequence[str], values: Sequence[Any]) -> list[float]:
        """Return sort keys: a choice's place in the spec's list, or the number itself."""
        space = self.spec.to_mapping().get("space", {})
        listed = [space.get(path) for path in paths]
        return [
            options.index(value) if isinstance(options, list) and value in options
            else float(value) if isinstance(value, int | float) else 0.0
            for options, value in zip(listed, values, strict=True)
        ]  # fmt: skip

    def _value(self, row: pd.Series[Any], path: str) -> Any:
        column = f"param.{path}"
        return row[column] if column in row.index else self.spec.base.value(path)


def lowest(values: pd.Series[Any]) -> int:
    """Return the place of the lowest value, leaving out what diverged.

    Raises:
        ConfigError: nothing is left.

    """
    if not values.notna().any():
        raise ConfigError(
            f"a page needs one trial that trains, but every `{values.name}` diverged; "
            "try a lower learning rate"
        )
    return int(values.argmin())


def new_figure(rows: int = 1, columns: int = 1, *, height: float = 3.8) -> tuple[Figure, Any]:
    """Return a figure in the report's style and its axes, [rows, columns]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = COLOURS["light"]
    figure = Figure(figsize=(max(5.2 * columns, 6.4), height * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.grid(color=colours["grid"], linewidth=0.7)
        one.set_axisbelow(True)
        for side in ("top", "right"):
            one.spines[side].set_visible(False)
        one.set_prop_cycle(color=PALETTE)
        one.tick_params(labelsize=8.5)
    return figure, axes


def label(axes: Axes, title: str, x: str, y: str, *, legend: bool = True) -> None:
    """Title an axes, name what it shows, and explain its lines."""
    from matplotlib.ticker import NullFormatter

    axes.set_title(title, fontsize=10.5, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    for axis in (axes.xaxis, axes.yaxis):
        low, high = axis.get_view_interval()
        if axis.get_scale() == "log" and high > 10 * low > 0:
            axis.set_minor_formatter(NullFormatter())  # 2 x 10^n would run into its neighbours
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, framealpha=0.8, edgecolor="none")
