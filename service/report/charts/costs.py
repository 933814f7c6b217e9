"""Error against energy, and where the energy went."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from service.ledger.records import TrialRecord
from service.report.charts.base import Chart, Figure, json_numbers, layout, log_axis
from service.report.charts.history import hover
from service.report.facts import Facts
from service.report.numbers import energy, energy_unit, short
from service.search.objectives import pareto_front

PARTS = (
    ("trials", "trials_kwh", "training, by measured time", True),
    ("frozen trials", "padding_kwh", "time spent on trials that had already ended", True),
    ("overhead", "overhead_kwh", "driver, Ray and meter", True),
    ("idle", "idle_kwh", "this search's share of the machine's idle power and memory", True),
    ("others", "others_kwh", "other searches and other programs", False),
    ("gap", "gap_kwh", "not seen by the meter", False),
)
"""(name, attribute, meaning, whether it is the search's own). They sum to the machine's."""


def error_against_energy(facts: Facts) -> Chart | None:
    """Draw finished trials of the longest length by cost and metric, with the Pareto front.

    Cost is active energy; training FLOPs where the search was not metered.
    """
    epochs = facts.longest_epochs
    trials = [
        t
        for t in facts.candidates
        if t.state == "complete" and t.horizon_epochs == epochs and math.isfinite(facts.value(t))
    ]
    costs, unit = _costs(facts, trials)
    trials = [t for t in trials if t.trial_id in costs]
    if len(trials) < 3:
        return None
    xs, metric = [costs[t.trial_id] for t in trials], facts.objective.metric
    points = [(x, facts.objective.cost(facts.value(t))) for x, t in zip(xs, trials, strict=True)]
    front = sorted(pareto_front(points), key=lambda i: xs[i])
    data = [
        _dots([xs[i] for i in range(len(xs)) if i not in front],
              [t for i, t in enumerate(trials) if i not in front], facts, "other trials",
              {"color": "@s0", "size": 8, "opacity": 0.7}, "markers"),
        _dots([xs[i] for i in front], [trials[i] for i in front], facts,
              "nothing is both better and cheaper", {"color": "@accent", "size": 10},
              "lines+markers"),
    ]  # fmt: skip
    table = pd.DataFrame(
        {
            "trial": [t.trial_id for t in trials],
            metric: [facts.value(t) for t in trials],
            unit: xs,
            "parameters": [t.num_params for t in trials],
            "on the front": [i in front for i in range(len(trials))],
        }
    ).sort_values(unit)
    return Chart(
        name="pareto",
        title="Error against energy" if unit.startswith("active") else "Error against compute",
        note=f"Finished trials of {epochs} epochs. Left and low is better; along the line, "
        f"a better {metric} costs more. Energy here is active energy only, so that trials compare.",
        views=(
            (
                "all",
                {"data": data, "layout": layout(height=380, y=metric, xaxis=log_axis(unit, xs))},
            ),
        ),
        table=table,
    )


def _costs(facts: Facts, trials: Sequence[TrialRecord]) -> tuple[dict[int, float], str]:
    active = {t.trial_id: facts.trial_kwh.get(t.trial_id, 0.0) for t in trials}
    if trials and all(value > 0 for value in active.values()):
        factor, unit = energy_unit(max(active.values()))
        return {k: factor * kwh for k, kwh in active.items()}, f"active energy ({unit})"
    flops = {t.trial_id: t.flops_per_epoch * t.epochs_done for t in trials if t.flops_per_epoch}
    return flops, "training compute (FLOP)"


def _dots(
    xs: Sequence[float], trials: Sequence[TrialRecord], facts: Facts, name: str, marker: Figure,
    mode: str,
) -> Figure:  # fmt: skip
    return {
        "type": "scatter", "mode": mode, "name": name, "x": json_numbers(xs),
        "y": json_numbers([facts.value(t) for t in trials]), "marker": marker,
        "line": {"color": marker["color"], "width": 1.5, "shape": "hv"},
        "text": [hover(t) for t in trials],
        "hovertemplate": "%{text}<br>%{x:.3g}, %{y:.4g}<extra></extra>",
    }  # fmt: skip


def energy_breakdown(facts: Facts) -> Chart | None:
    """Show where the machine's energy went while the search ran: parts that sum to the whole."""
    accounts = facts.accounts
    if accounts is None or accounts.node_kwh <= 0:
        return None
    kwh = {name: float(getattr(accounts, attribute)) for name, attribute, _, _ in PARTS}
    rows = [(name, kwh[name], meaning, own) for name, _, meaning, own in PARTS]
    shown = list(reversed(rows))
    factor, unit = energy_unit(accounts.node_kwh)
    figure = {
        "data": [
            {
                "type": "bar", "orientation": "h", "y": [name for name, *_ in shown],
                "x": [factor * value for _, value, _, _ in shown],
                "marker": {"color": ["@accent" if own else "@s0" for *_, own in shown]},
                "text": [f" {short(factor * value)} {unit}, {100 * value / accounts.node_kwh:.0f} %"
                         for _, value, _, _ in shown],
                "textposition": "outside", "cliponaxis": False, "textfont": {"color": "@ink"},
                "customdata": [meaning for _, _, meaning, _ in shown],
                "hovertemplate": "%{y}: %{customdata}<extra></extra>",
            }
        ],
        "layout": layout(height=300, x=f"energy ({unit}), PUE not included", showlegend=False,
                         margin={"t": 8, "r": 120}),
    }  # fmt: skip
    table = pd.DataFrame(
        [
            {"part": name, "kWh": value, "share": value / accounts.node_kwh, "what it is": meaning,
             "whose": "this search" if own else "not this search"}
            for name, value, meaning, own in rows
        ]
        + [{"part": "machine", "kWh": accounts.node_kwh, "share": 1.0,
            "what it is": "the whole machine while the search ran", "whose": "all"}]
    )  # fmt: skip
    methods = "; ".join(
        f"{part} {getattr(accounts, f'{part.lower()}_method')}" for part in ("CPU", "RAM", "GPU")
    )
    return Chart(
        name="energy",
        title="Where the energy went",
        note=f"The machine used {energy(accounts.node_kwh)} while the search ran, of which "
        f"{energy(accounts.own_kwh)} were the search's own; {energy(accounts.wasted_kwh)} of the "
        f"training was repeated after failures. {methods}.",
        views=(("all", figure),),
        table=table,
    )
