"""Searches and trials as tables for the terminal, and the same as plain values for `--json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.ledger import Ledger
from service.ledger.records import SearchRecord, TrialRecord
from service.recipe.record import plain
from service.report.best import yaml_text
from service.report.charts.costs import PARTS
from service.report.cost import cost_lines, cost_of
from service.report.facts import Facts, collect
from service.report.numbers import duration, energy, setting, short
from service.report.summary import summary
from service.report.training import how_compared, how_trained
from service.report.trust import final_verdicts, warnings
from service.report.verdict import answer, gain_sentence, noise_sentence, sentence, test_sentence
from trainers.errors import LedgerError

Rows = list[dict[str, Any]]
MAX_TRIALS = 20
"""Trials that `show` prints, best first; the tables hold all."""
STATE_STYLES = {
    "finished": "green", "complete": "green", "running": "cyan", "waiting": "dim",
    "pruned": "dim", "stopped": "yellow", "interrupted": "yellow", "diverged": "red",
    "failed": "red", "recipe_stopped": "red", "infeasible": "yellow",
}  # fmt: skip
MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "·"}


def search_rows(ledger: Ledger) -> Rows:
    """Return one row per search of a ledger, newest first."""
    return [
        {
            "id": search.search_id,
            "project": search.project,
            "state": search.state,
            "started": _moment(search.created_unix_s),
            "seconds": search.seconds,
            "verdict": _verdict(ledger, search),
        }
        for search in reversed(ledger.searches())
        if search.state != "deleted"
    ]


def _verdict(ledger: Ledger, search: SearchRecord) -> str:
    if search.kind == "study":
        from service.scaling.report.terminal import study_sentence

        return study_sentence(search)
    return sentence(answer(collect(ledger, search.search_id, with_energy=False)))


def list_table(rows: Rows) -> RenderableType:
    """Draw what `search_rows` returned."""
    if not rows:
        return Text("no searches yet; start one with: isoflop search SPEC")
    table = _table("id", "state", "started", "took", "answer")
    for row in rows:
        table.add_row(
            row["id"], _state(row["state"]), row["started"], duration(row["seconds"]),
            row["verdict"],
        )  # fmt: skip
    return table


def search_detail(ledger: Ledger, search_id: str) -> tuple[dict[str, Any], RenderableType]:
    """Return a search's summary, and the same for the terminal: answer, trust, cost, trials.

    Raises:
        LedgerError: if there is no such search.

    """
    facts = collect(ledger, search_id)
    found = answer(facts)
    parts: list[RenderableType] = [Text(f"{search_id}: {sentence(found)}", style="bold")]
    if found is not None:
        for line in (gain_sentence(found), noise_sentence(found), test_sentence(found)):
            parts.append(Text(line))
    parts += [Text(""), _recipe_table(facts)] if len(facts.recipe) else []
    parts += [Text(f"! {text}", style="yellow") for text in warnings(facts, found)]
    parts += [Text(""), _rounds_table(facts)]
    for r in facts.search_rounds:
        if compared := how_compared(facts, r.round):
            parts.append(Text(f"round {r.round}: {compared}", style="dim"))
    parts += [Text(""), _trials_table(facts)]
    for text in how_trained(facts):
        parts.append(Text(f"trained by {text}", style="dim"))
    costs = Table.grid(padding=(0, 2))
    for label, value, note in cost_lines(facts, cost_of(facts, found)):
        costs.add_row(label, Text(value, style="bold"), Text(note, style="dim"))
    parts += [Text(""), costs]
    return summary(facts), Group(*parts)


def trial_detail(
    ledger: Ledger, search_id: str, trial_id: int
) -> tuple[dict[str, Any], RenderableType]:
    """Return one trial's record and curve, and the same for the terminal.

    Raises:
        LedgerError: if there is no such search or trial.

    """
    ledger.search(search_id)
    found = ledger.trials(search_id, trial_ids=[trial_id])
    if not found:
        count = ledger.next_trial_id(search_id)
        raise LedgerError(
            f"search {search_id} has no trial {trial_id}; its trials are 0 to {count - 1}"
            if count
            else f"search {search_id} has no trials yet"
        )
    trial = found[0]
    rows = ledger.epoch_rows(search_id, [trial_id])
    head = Text.assemble(
        (f"{search_id}/{trial_id}", "bold"), f"  {trial.role}, round {trial.round}, ",
        (trial.state, STATE_STYLES.get(trial.state, "")),
        f", {trial.epochs_done} of {trial.horizon_epochs} epochs, seed {trial.seed}",
    )  # fmt: skip
    parts: list[RenderableType] = [head]
    if trial.reason:
        parts.append(Text(trial.reason, style="yellow"))
    parts += [Text(""), Text(yaml_text(trial.config).rstrip()), Text("")]
    names = list(dict.fromkeys(name for *_, metrics in rows for name in metrics))
    curve = _table("epoch", *names, "status")
    for _, epoch, status, metrics in rows:
        cells = [short(metrics[n], 4) if n in metrics else "–" for n in names]
        curve.add_row(str(epoch), *cells, status)
    parts.append(curve)
    data = {
        "trial": {name: getattr(trial, name) for name in type(trial).__dataclass_fields__},
        "curve": [{"epoch": e, "status": status, **m} for _, e, status, m in rows],
    }
    return plain(data), Group(*parts)


def compare_rows(ledger: Ledger, search_ids: Sequence[str]) -> Rows:
    """Return one row per search: its answer, its cost and what it tried."""
    return [_compared(collect(ledger, search_id)) for search_id in search_ids]


def compare_table(rows: Rows) -> RenderableType:
    """Draw what `compare_rows` returned: a column per search, as few have many properties."""
    table = _table("", *(row["id"] for row in rows))
    metrics = {row["metric"] for row in rows}
    for name in rows[0]:
        if name != "id":
            table.add_row(name, *(_compare_cell(name, row[name]) for row in rows))
    if len(metrics - {None}) > 1:
        names = ", ".join(sorted(m for m in metrics if m))
        return Group(table, Text(f"! these searches have different metrics: {names}"))
    return table


def energy_table(ledger: Ledger, search_id: str) -> tuple[dict[str, Any], RenderableType]:
    """Return a search's energy accounts, and the same for the terminal."""
    facts = collect(ledger, search_id)
    accounts = facts.accounts
    if accounts is None:
        return {"energy_kwh": None}, Text(f"{search_id}: {facts.energy_problem}")
    table = _table("part", "energy", "share", "what it is")
    for name, attribute, meaning, own in PARTS:
        kwh = float(getattr(accounts, attribute))
        share = kwh / accounts.node_kwh if accounts.node_kwh else 0.0
        style = "" if own else "dim"
        table.add_row(name, energy(kwh), f"{100 * share:.1f} %", meaning, style=style)
    table.add_section()
    table.add_row("machine", energy(accounts.node_kwh), "100 %", "while the search ran")
    lines: list[RenderableType] = [table]
    for label, value, note in cost_lines(facts, cost_of(facts, answer(facts))):
        lines.append(Text(f"{label}: {value} ({note})" if note else f"{label}: {value}"))
    data = summary(facts)
    keys = ("energy_kwh", "energy_residual", "energy_measured_share", "co2e_kg", "pue",
            "energy_provenance")  # fmt: skip
    return {key: data[key] for key in keys}, Group(*lines)


def _compared(facts: Facts) -> dict[str, Any]:
    found, own = answer(facts), facts.accounts.own_kwh if facts.accounts else None
    pue = facts.site.pue if facts.site else 1.0
    known = found is not None and math.isfinite(found.interval.low)
    return {
        "id": facts.search.search_id,
        "state": facts.search.state,
        "metric": None if found is None else found.metric,
        "best": None if found is None else found.interval.mean,
        "low": found.interval.low if found is not None and known else None,
        "high": found.interval.high if found is not None and known else None,
        "trials": sum(facts.counts.values()),
        "rounds": ", ".join(f"{r.sampler} {r.planned_trials}x{r.epochs}"
                            for r in facts.search_rounds),
        "own_kwh_times_pue": None if own is None else own * pue,
        "seconds": facts.search.seconds,
        "seed": facts.search.seed,
        "params": {} if found is None else dict(found.best.first.params),
    }  # fmt: skip


def _compare_cell(name: str, value: Any) -> str:
    if name == "own_kwh_times_pue":
        return energy(value)
    if name == "seconds":
        return duration(value)
    if name == "params":
        return "\n".join(f"{path} {setting(v)}" for path, v in value.items())
    return "–" if value is None else setting(value)


def _recipe_table(facts: Facts) -> Table:
    table = Table.grid(padding=(0, 2))
    for verdict in final_verdicts(facts):
        table.add_row(
            MARKS[verdict.passed], f"{verdict.step}. {verdict.name}",
            Text(verdict.verdict.replace("_", " "), style="bold"), Text(verdict.reason),
        )  # fmt: skip
    return table


def _rounds_table(facts: Facts) -> Table:
    table = _table("round", "sampler", "trials", "epochs", "state")
    for r in facts.rounds:
        number = str(r.round) if r.kind in ("search", "extension") else r.kind
        table.add_row(number, r.sampler, str(r.planned_trials), str(r.epochs),
                      _state(r.state.replace("_", " ")))  # fmt: skip
    return table


def _trials_table(facts: Facts) -> RenderableType:
    trials = sorted(facts.candidates, key=lambda t: _rank(facts, t))
    paths = list(dict.fromkeys(path for trial in trials for path in trial.params))
    table = _table("trial", "state", "epochs", facts.objective.metric, *paths)
    for trial in trials[:MAX_TRIALS]:
        value = facts.value(trial)
        table.add_row(
            str(trial.trial_id), _state(trial.state),
            f"{trial.epochs_done}/{trial.horizon_epochs}",
            "–" if math.isnan(value) else short(value, 4),
            *(setting(trial.params[p]) if p in trial.params else "–" for p in paths),
        )  # fmt: skip
    left = len(trials) - MAX_TRIALS
    if left > 0:
        note = Text(f"{left} more trials: isoflop export {facts.search.search_id}", style="dim")
        return Group(table, note)
    return table


def _rank(facts: Facts, trial: TrialRecord) -> tuple[int, int, float, int]:
    """Sort finished trials first, the longest first, the best first."""
    value = facts.value(trial)
    cost = facts.objective.cost(value) if math.isfinite(value) else math.inf
    return (trial.state != "complete", -trial.horizon_epochs, cost, trial.trial_id)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _state(state: str) -> Text:
    return Text(state.replace("_", " "), style=STATE_STYLES.get(state, ""))


def _moment(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
