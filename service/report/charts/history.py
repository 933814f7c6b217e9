"""Best so far against trials and against compute; learning curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from service.ledger.records import RoundRecord, TrialRecord
from service.report.charts.base import Chart, Figure, json_numbers, layout
from service.report.facts import Facts
from service.report.numbers import setting, short
from service.search.objectives import incumbents

MAX_FAINT_CURVES = 200


def history(facts: Facts) -> Chart | None:
    """Show every trial's result and the best so far, each round by itself.

    Rounds train for different lengths, so a best-so-far line never crosses from one to another.
    """
    trials = [t for t in facts.candidates if math.isfinite(facts.value(t))]
    if not trials:
        return None
    busy = _cumulative_busy_s(facts, trials)
    unit, scale = ("s", 1.0) if max(busy.values()) < 600 else ("min", 60.0)
    by_trial = _history(facts, trials, {t.trial_id: t.trial_id for t in trials}, "trial")
    by_time = _history(
        facts, trials, {k: v / scale for k, v in busy.items()}, f"training time so far ({unit})"
    )
    metric = facts.objective.metric
    table = pd.DataFrame(
        {
            "trial": [t.trial_id for t in trials],
            "round": [t.round for t in trials],
            "state": [t.state for t in trials],
            "epochs": [t.epochs_done for t in trials],
            metric: [facts.value(t) for t in trials],
        }
    )
    return Chart(
        name="history",
        title="How the search closed in",
        note=f"Each dot is a trial, each line the best {metric} so far within one round. Rounds "
        "train for different lengths, so they are not joined. Open dots ended early.",
        views=(("by trial", by_trial), ("by training time", by_time)),
        table=table,
    )


def _history(
    facts: Facts, trials: Sequence[TrialRecord], where: dict[int, float], x: str
) -> Figure:
    metric, data = facts.objective.metric, []
    for number, record in enumerate(facts.search_rounds):
        members = [t for t in trials if t.round == record.round]
        if not members:
            continue
        colour = f"@s{1 + number % 6}"
        values = [facts.value(t) for t in members]
        complete = [
            v if t.state == "complete" else math.nan for t, v in zip(members, values, strict=True)
        ]
        xs = json_numbers([where[t.trial_id] for t in members])
        name = round_name(record)
        data.append(
            {
                "type": "scatter", "mode": "markers", "name": name, "x": xs,
                "y": json_numbers(values), "legendgroup": name, "showlegend": False,
                "marker": {
                    "color": colour, "size": 7, "opacity": 0.75,
                    "symbol": ["circle" if t.state == "complete" else "circle-open"
                               for t in members],
                },
                "text": [hover(t) for t in members],
                "hovertemplate": f"%{{text}}<br>{metric} %{{y:.4g}}<extra></extra>",
            }
        )  # fmt: skip
        data.append(
            {
                "type": "scatter", "mode": "lines", "x": xs, "legendgroup": name,
                "y": json_numbers(incumbents(complete, facts.objective)), "name": name,
                "line": {"color": colour, "width": 2.5, "shape": "hv"}, "hoverinfo": "skip",
            }
        )  # fmt: skip
    value_axis = _value_axis([facts.value(t) for t in trials])
    shapes, notes = _reference_lines(facts, log=bool(value_axis))
    return {
        "data": data,
        "layout": layout(
            height=380, x=x, y=metric, shapes=shapes, annotations=notes, yaxis=value_axis
        ),
    }


def _reference_lines(facts: Facts, *, log: bool) -> tuple[list[Figure], list[Figure]]:
    lines: list[tuple[str, float, str, str]] = []
    if facts.baseline is not None:
        lines.append(("baseline", facts.baseline.mean, "@muted", "dot"))
    if facts.finalists and facts.best is not None:
        lines.append(("re-trained winner", facts.best.mean, "@best", "solid"))
    shapes: list[Figure] = [
        {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y,
         "line": {"color": colour, "width": 1.5, "dash": dash}}
        for _, y, colour, dash in lines
    ]  # fmt: skip
    notes: list[Figure] = [
        {"xref": "paper", "x": 0.0, "y": math.log10(y) if log else y, "text": label,
         "showarrow": False, "xanchor": "left", "yanchor": "bottom",
         "font": {"size": 11, "color": colour}}
        for label, y, colour, _ in lines
    ]  # fmt: skip
    return shapes, notes


def _value_axis(values: Sequence[float]) -> dict[str, Any]:
    """Return a log axis where all values are positive, as errors and losses are."""
    finite = [v for v in values if math.isfinite(v)]
    if not finite or min(finite) <= 0:
        return {}
    low, high = math.floor(math.log10(min(finite))), math.ceil(math.log10(max(finite)))
    ticks = [s * 10.0**e for e in range(low, high + 1) for s in (1, 2, 5)]
    return {"type": "log", "tickvals": ticks, "ticktext": [f"{t:g}" for t in ticks]}


def learning_curves(facts: Facts) -> Chart | None:
    """Show the winner's curves among all others, and its training against validation loss."""
    curves, best = facts.curves, facts.best
    if curves.empty or best is None:
        return None
    metric = facts.objective.metric if facts.objective.metric in curves else "val_loss"
    best_ids = [trial.trial_id for trial in best.trials]
    others = [t.trial_id for t in facts.candidates if t.trial_id not in best_ids]
    shown = others[-MAX_FAINT_CURVES:]
    wanted = curves.loc[curves["trial_id"].isin([*best_ids, *shown])]
    grouped = {int(str(trial_id)): group for trial_id, group in wanted.groupby("trial_id")}
    winners = [grouped[trial_id] for trial_id in best_ids if trial_id in grouped]
    if not winners:
        return None
    among = [_faint(grouped, shown, metric), *_bold(winners, metric, "winner", "@best")]
    views = [(metric, _curve_figure(among, metric, wanted[metric].tolist()))]
    if "train_loss" in curves and "val_loss" in curves:
        pair = [
            *_bold(winners, "train_loss", "winner, training", "@accent", "dot"),
            *_bold(winners, "val_loss", "winner, validation", "@best"),
        ]
        values = [v for w in winners for v in (*w["train_loss"].tolist(), *w["val_loss"].tolist())]
        views.append(("training and validation loss", _curve_figure(pair, "loss", values)))
    lasts = ", ".join(short(winner[metric].iloc[-1]) for winner in winners)
    return Chart(
        name="curves",
        title="Learning curves",
        note=f"{metric} after each epoch: the winner's seeds in front of {len(shown)} other "
        f"trials. The winner ends at {lasts}.",
        views=tuple(views),
        table=pd.concat(winners).drop(columns=["busy_s"]),
    )


def _curve_figure(data: list[Figure], y: str, values: Sequence[float]) -> Figure:
    return {
        "data": data,
        "layout": layout(height=380, x="epoch", y=y, yaxis=_value_axis(values)),
    }


def _faint(grouped: dict[int, pd.DataFrame], ids: Sequence[int], metric: str) -> Figure:
    """Put all other curves into one trace, with gaps between them: thousands stay light."""
    xs: list[Any] = []
    ys: list[Any] = []
    for trial_id in ids:
        if trial_id in grouped:
            xs += [*grouped[trial_id]["epoch"].tolist(), None]
            ys += [*json_numbers(grouped[trial_id][metric].tolist()), None]
    return {
        "type": "scatter", "mode": "lines", "x": xs, "y": ys, "name": "other trials",
        "line": {"color": "@faint", "width": 1}, "opacity": 0.55, "hoverinfo": "skip",
    }  # fmt: skip


def _bold(
    winners: Sequence[pd.DataFrame], metric: str, name: str, colour: str, dash: str = "solid"
) -> list[Figure]:
    return [
        {
            "type": "scatter", "mode": "lines", "name": name, "legendgroup": name,
            "showlegend": place == 0, "x": curve["epoch"].tolist(),
            "y": json_numbers(curve[metric].tolist()),
            "line": {"color": colour, "width": 2.5, "dash": dash},
            "hovertemplate": f"epoch %{{x}}<br>{metric} %{{y:.4g}}<extra></extra>",
        }
        for place, curve in enumerate(winners)
    ]  # fmt: skip


def round_name(record: RoundRecord) -> str:
    """Name a round with its length: rounds of different lengths are not alike."""
    return f"round {record.round} ({record.sampler}, {record.epochs} epochs)"


def hover(trial: TrialRecord) -> str:
    """Describe a trial in a few short lines."""
    params = "<br>".join(f"{path} {setting(value)}" for path, value in trial.params.items())
    return f"<b>trial {trial.trial_id}</b>, {trial.state}, {trial.epochs_done} epochs<br>{params}"


def _cumulative_busy_s(facts: Facts, trials: Sequence[TrialRecord]) -> dict[int, float]:
    """Return the training seconds spent when each trial ended, trials taken in order."""
    busy = facts.curves.groupby("trial_id")["busy_s"].sum().to_dict()
    total, result = 0.0, {}
    for trial in trials:
        total += float(busy.get(trial.trial_id, 0.0))
        result[trial.trial_id] = total
    return result
