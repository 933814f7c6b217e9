"""From a search's accounts to lines: where each joule was used, when, by whom and for what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from service.energy.accounts import accounts
from service.energy.attribution import OWN_PARTS, Shares
from service.energy.meter import MEASURED_METHODS
from service.energy.pieces import DEVICES
from service.energy.windows import JOULES_PER_KWH
from service.ledger import Ledger, SearchRecord

FAILED_STATES = ("failed", "diverged", "infeasible", "stopped")


@dataclass(frozen=True, kw_only=True)
class Line:
    """Energy of one search in one piece of time on one host."""

    search: SearchRecord
    host: str
    unix_s: float
    seconds: float
    kwh: float
    """Own: trials, padding, overhead and the search's share of idle."""
    pruned_kwh: float
    failed_kwh: float
    wasted_kwh: float
    """Of `kwh`: work that had to be done again."""
    measured_kwh: float
    gap_kwh: float
    """Estimated for stretches that no meter saw; not in `kwh`."""
    gap_s: float


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A trial, the state that it ended in, and where and when its last work ended."""

    search: SearchRecord
    host: str
    unix_s: float
    state: str


def lines_of(ledger: Ledger, search: SearchRecord) -> Iterator[Line]:
    """Yield one line per window or gap of a search."""
    states = {trial.trial_id: trial.state for trial in ledger.trials(search.search_id)}
    starts = {
        (span.host, span.boot_id): span.started_unix_s - span.started_s
        for span in ledger.spans(search.search_id)
    }
    for share in accounts(ledger, search.search_id).attribution.shares:
        yield _line(search, share, states, starts)


def _line(
    search: SearchRecord,
    share: Shares,
    states: Mapping[int, str],
    starts: Mapping[tuple[str, str], float],
) -> Line:
    piece, window = share.piece, share.piece.window
    own = {d: sum(share.parts[part][d] for part in OWN_PARTS) for d in DEVICES}
    measured = sum(
        joules
        for device, joules in own.items()
        if window is not None and window.methods.get(device) in MEASURED_METHODS
    )
    by_state: dict[str, float] = {}
    for trial_id, joules_of in share.trials.items():
        state = states.get(trial_id, "failed")
        by_state[state] = by_state.get(state, 0.0) + sum(joules_of.values())
    return Line(
        search=search,
        host=piece.host,
        unix_s=piece.started_s + starts.get((piece.host, piece.boot_id), 0.0),
        seconds=piece.seconds,
        kwh=sum(own.values()) / JOULES_PER_KWH,
        pruned_kwh=by_state.get("pruned", 0.0) / JOULES_PER_KWH,
        failed_kwh=sum(by_state.get(state, 0.0) for state in FAILED_STATES) / JOULES_PER_KWH,
        wasted_kwh=share.wasted_j / JOULES_PER_KWH,
        measured_kwh=measured / JOULES_PER_KWH,
        gap_kwh=share.total(("gap",)) / JOULES_PER_KWH,
        gap_s=piece.seconds if window is None else 0.0,
    )


def attempts_of(ledger: Ledger, search: SearchRecord) -> Iterator[Attempt]:
    """Yield the search's trials that were worked on.

    A trial counts once, however often its segments were issued again; what the repeats cost is
    in `wasted_kwh`.
    """
    starts = {span.host: span.started_unix_s - span.started_s
              for span in ledger.spans(search.search_id)}  # fmt: skip
    last: dict[int, tuple[float, str]] = {}
    for _, _, usage in ledger.usage(search.search_id):
        ended = usage.ended_s + starts.get(usage.host, 0.0)
        for trial_id in usage.trial_busy_s:
            last[trial_id] = max(last.get(trial_id, (0.0, "")), (ended, usage.host))
    for trial in ledger.trials(search.search_id):
        if trial.trial_id in last:
            unix_s, host = last[trial.trial_id]
            yield Attempt(search=search, host=host, unix_s=unix_s, state=trial.state)
