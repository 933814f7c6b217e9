"""The accounts of a whole host: every search's own part, and what belongs to none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.energy.attribution import cpu_shares, idle_j
from service.energy.pieces import SpanLike
from service.energy.windows import Window, member_key


@dataclass(frozen=True, kw_only=True)
class HostAccount:
    """Joules of a host between two moments: node = own of all + unassigned + not ours + gap."""

    node_j: float
    own_j: Mapping[str, float]
    """search_id -> joules."""
    unassigned_j: float
    """Idle energy with no search alive, and what driver processes used outside their spans."""
    not_ours_j: float
    """Active energy of processes that belong to no search."""
    gap_j: float
    """Of windows that were not credible; time without any window has no joules here."""
    gap_s: float
    """Seconds that no credible window covers."""

    @property
    def residual(self) -> float:
        """|node - sum of the parts| / node."""
        parts_j = sum(self.own_j.values()) + self.unassigned_j + self.not_ours_j + self.gap_j
        return abs(self.node_j - parts_j) / self.node_j if self.node_j else abs(parts_j)


def host_account(
    windows: Iterable[Window],
    spans: Mapping[str, Sequence[SpanLike]],
    started_s: float,
    ended_s: float,
) -> HostAccount:
    """Fold the windows of one boot of one host, from one meter at a time.

    Args:
        windows: in any order; duplicates count once.
        spans: of every search that ran there.
        started_s: monotonic seconds of the host.
        ended_s: the same.

    """
    unique = {(one.meter_epoch, one.seq): one for one in windows}
    own_j = dict.fromkeys(spans, 0.0)
    node_j = unassigned_j = not_ours_j = gap_j = covered_s = 0.0
    cursor = started_s
    for window in sorted(unique.values(), key=lambda one: one.started_s):
        start, end = max(window.started_s, cursor), min(window.ended_s, ended_s)
        if end <= start:
            continue
        cursor = end
        window_j = window.node_j * (end - start) / window.seconds
        node_j += window_j
        if window.gap_reason:
            gap_j += window_j
            continue
        covered_s += end - start
        members_j, rest_j = _members_j(window)
        not_ours_j += rest_j * (end - start) / window.seconds
        if not window.members:
            idle = sum(idle_j(window).values())
            unassigned_j += idle * (end - start) / window.seconds
        for search_id, key, alive_s in _alive(window, spans, start, end):
            whole_j = members_j[key] * (end - start) / window.seconds
            part_j = members_j[key] * alive_s / window.seconds
            if search_id is not None:
                own_j[search_id] += part_j
                unassigned_j += whole_j - part_j
            else:
                unassigned_j += whole_j
    return HostAccount(
        node_j=node_j,
        own_j=own_j,
        unassigned_j=unassigned_j,
        not_ours_j=not_ours_j,
        gap_j=gap_j,
        gap_s=max(0.0, ended_s - started_s - covered_s),
    )


def _members_j(window: Window) -> tuple[dict[str, float], float]:
    """Return each member's active energy and share of idle, and the active energy of the rest."""
    active_j, joules = cpu_shares(window)
    rest_j = active_j - sum(joules.values())
    num_members = max(1, len(window.members))
    idle = sum(idle_j(window).values()) / num_members
    joules = {key: part_j + idle for key, part_j in joules.items()}
    for gpu in window.gpus:
        active_j = max(0.0, gpu.joules - gpu.idle_j)
        even = 1.0 / num_members if gpu.method == "usage" else 0.0
        used_j = {key: active_j * gpu.members.get(key, even) for key in joules}
        rest_j += active_j - sum(used_j.values())
        joules = {key: joules[key] + used_j[key] for key in joules}
    return joules, rest_j


def _alive(
    window: Window, spans: Mapping[str, Sequence[SpanLike]], start: float, end: float
) -> list[tuple[str | None, str, float]]:
    """Return (search or None, member, seconds of [start, end] in its spans) for each member."""
    found: list[tuple[str | None, str, float]] = []
    for key in window.members:
        search_id = key.rsplit(":", 1)[0]
        alive_s = sum(
            max(0.0, min(span.ended_s, end) - max(span.started_s, start))
            for span in spans.get(search_id, ())
            if member_key(search_id, span.pid) == key
            and (span.host, span.boot_id) == (window.host, window.boot_id)
        )
        found.append((search_id if search_id in spans else None, key, alive_s))
    return found
