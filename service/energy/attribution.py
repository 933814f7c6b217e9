"""Who used the energy of a host: a pure function of windows, usages and spans.

For one search, over its spans, and per device (cpu, ram, gpu):

    node = trials + padding + overhead + idle + others + gap            (to 1e-9, always)
    own  = trials + padding + overhead + idle

- *idle* is the floor that the host takes whether or not anybody works, and all of the memory's
  (its power is a constant of the host, it does not follow use). It is shared equally over the
  members alive in the window; our share is `idle`, the rest is in `others`.
- *active* energy of the CPU is shared by processor time: ours is
  active x (our tree's CPU seconds) / max(host busy core seconds, sum of all trees').
- Of ours, each trial gets its measured busy seconds' part, frozen lanes `padding`, and what no
  usage explains (driver, raylet, meter, evaluation) is `overhead`.
- *gap* is time of the span that no window covers. Its energy is estimated by the mean power of
  the windows beside it.

A window that lies across the edge of a span is cut at constant power. The splits are allocations
by time, as in Kepler (kepler.gl) and Scaphandre, not measurements per process.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.energy.gpu_share import own_gpu_weight, split_gpu
from service.energy.pieces import DEVICES, Piece, SpanLike, cut
from service.energy.windows import Window, member_key
from service.messages import Usage

PARTS = ("trials", "padding", "overhead", "idle", "others", "gap")
OWN_PARTS = ("trials", "padding", "overhead", "idle")


@dataclass(frozen=True, kw_only=True)
class Spent:
    """A usage as attribution takes it: `wasted` if the work had to be done again."""

    usage: Usage
    wasted: bool = False


@dataclass
class Shares:
    """Where the energy of one piece went, in joules."""

    piece: Piece
    parts: dict[str, dict[str, float]]
    """part -> device -> joules; part is one of PARTS, device one of DEVICES."""
    trials: dict[int, dict[str, float]]
    """trial_id -> device -> joules."""
    busy_s: Mapping[int, float]
    """trial_id -> processor seconds it reported for this piece, measured or not."""
    wasted_j: float = 0.0

    def total(self, parts: Iterable[str] = PARTS) -> float:
        """Sum over the given parts and all devices."""
        return sum(sum(self.parts[part].values()) for part in parts)


@dataclass
class Attribution:
    """The accounts of one search in joules, piece by piece."""

    shares: list[Shares]
    node_j: float
    """From the windows (and gaps) alone, independent of how it was split."""
    windows: Sequence[Window] = ()
    """All that were given, those just outside the spans among them."""

    def part_j(self, part: str, device: str | None = None) -> float:
        """Joules of one part, of one device or of all."""
        devices = DEVICES if device is None else (device,)
        return sum(share.parts[part][name] for share in self.shares for name in devices)

    @property
    def own_j(self) -> float:
        """Joules this search caused: trials, padding, overhead and its share of idle."""
        return sum(self.part_j(part) for part in OWN_PARTS)

    @property
    def wasted_j(self) -> float:
        """Of the trials' and padding's joules, those spent on work that was done again."""
        return sum(share.wasted_j for share in self.shares)

    @property
    def trials_j(self) -> dict[int, dict[str, float]]:
        """Active joules by trial and device."""
        totals: dict[int, dict[str, float]] = {}
        for share in self.shares:
            for trial_id, devices in share.trials.items():
                total = totals.setdefault(trial_id, dict.fromkeys(DEVICES, 0.0))
                for device, joules in devices.items():
                    total[device] += joules
        return totals

    @property
    def residual(self) -> float:
        """|node - sum of the parts| / node; 0 where nothing was measured."""
        parts_j = sum(self.part_j(part) for part in PARTS)
        return abs(self.node_j - parts_j) / self.node_j if self.node_j else abs(parts_j)

    @property
    def gap_s(self) -> float:
        """Seconds of the spans that no window covers."""
        return sum(share.piece.seconds for share in self.shares if share.piece.window is None)


def attribute(
    windows: Iterable[Window],
    usages: Sequence[Usage | Spent],
    search_id: str,
    spans: Sequence[SpanLike],
    *,
    others_usages: Mapping[str, Sequence[Usage]] | None = None,
) -> Attribution:
    """Split the energy of the hosts over the spans of one search.

    Args:
        windows: of the spans' hosts, in any order, with or without duplicates. A few more before
            and after a span help to estimate gaps at its edges.
        usages: busy time that this search's trials were given; `Spent` marks wasted work.
        search_id: whose accounts these are.
        spans: the stretches of time, each of one driver process, that the accounts cover.
        others_usages: GPU busy time of other searches by id, where the ledger has it; used only
            for GPUs whose driver does not say which process used them.

    Returns:
        The accounts. The parts sum to the node to 1e-9, whatever is missing.

    """
    spent = [item if isinstance(item, Spent) else Spent(usage=item) for item in usages]
    unique = list({(w.host, w.boot_id, w.meter_epoch, w.seq): w for w in windows}.values())
    shares: list[Shares] = []
    node_j = 0.0
    for span in sorted(spans, key=lambda one: (one.host, one.boot_id, one.started_s)):
        key = member_key(search_id, span.pid)
        overlap = _Overlap([one for one in spent if one.usage.host == span.host])
        for piece in cut(unique, span, key):
            node_j += sum(piece.node_j.values())
            shares.append(_split(piece, key, overlap.during(piece), others_usages or {}))
    return Attribution(shares=shares, node_j=node_j, windows=unique)


@dataclass(frozen=True)
class BusyTime:
    """Busy seconds within one piece, by (pid, trial, wasted); trial None is padding."""

    cpu: Mapping[tuple[int, int | None, bool], float]
    gpu: Mapping[tuple[int, int | None, bool], float]

    def by_trial(self) -> dict[int, float]:
        """Return the processor seconds of each trial, wasted ones included."""
        total_s: dict[int, float] = defaultdict(float)
        for (_, trial_id, _), seconds in self.cpu.items():
            if trial_id is not None:
                total_s[trial_id] += seconds
        return dict(total_s)


class _Overlap:
    """Finds the usages that overlap a piece; pieces come in order, so each is looked at once."""

    def __init__(self, spent: Sequence[Spent]) -> None:
        self._waiting = sorted(spent, key=lambda one: one.usage.started_s, reverse=True)
        self._open: list[Spent] = []

    def during(self, piece: Piece) -> BusyTime:
        """Return the busy time of the piece; a usage is spread evenly over its own span."""
        while self._waiting and self._waiting[-1].usage.started_s < piece.ended_s:
            self._open.append(self._waiting.pop())
        self._open = [one for one in self._open if one.usage.ended_s > piece.started_s]
        cpu: dict[tuple[int, int | None, bool], float] = defaultdict(float)
        gpu: dict[tuple[int, int | None, bool], float] = defaultdict(float)
        for one in self._open:
            usage = one.usage
            overlap_s = min(usage.ended_s, piece.ended_s) - max(usage.started_s, piece.started_s)
            if overlap_s <= 0:
                continue
            fraction = overlap_s / (usage.ended_s - usage.started_s)
            busy_s: dict[int | None, float] = dict(usage.trial_busy_s.items())
            busy_s[None] = usage.padding_s
            for trial_id, seconds in busy_s.items():
                cpu[usage.pid, trial_id, one.wasted] += seconds * fraction
                if usage.device != "cpu":
                    gpu[usage.pid, trial_id, one.wasted] += seconds * fraction
        return BusyTime(cpu, gpu)


def cpu_shares(window: Window) -> tuple[float, dict[str, float]]:
    """Return the active CPU joules of a window, and each member's part of them."""
    active_j = max(0.0, window.cpu_j - window.cpu_idle_j)
    trees_s = sum(use.cpu_s for use in window.members.values())
    busy_s = max(window.busy_core_s, trees_s)
    if busy_s <= 0:
        return active_j, dict.fromkeys(window.members, 0.0)
    return active_j, {key: active_j * use.cpu_s / busy_s for key, use in window.members.items()}


def idle_j(window: Window) -> dict[str, float]:
    """Return the joules nobody works for, by device: all of the memory's among them."""
    return {
        "cpu": min(window.cpu_j, window.cpu_idle_j),
        "ram": window.ram_j,
        "gpu": sum(min(gpu.joules, gpu.idle_j) for gpu in window.gpus),
    }


def _split(
    piece: Piece, key: str, busy: BusyTime, others_usages: Mapping[str, Sequence[Usage]]
) -> Shares:
    shares = Shares(
        piece=piece,
        parts={part: dict.fromkeys(DEVICES, 0.0) for part in PARTS},
        trials={},
        busy_s=busy.by_trial(),
    )
    if piece.window is None:
        shares.parts["gap"] = piece.node_j
        return shares
    window, fraction = piece.window, piece.fraction
    idle_share = 1.0 / len(window.members) if key in window.members else 0.0
    for device, joules in idle_j(window).items():
        shares.parts["idle"][device] = joules * fraction * idle_share
        shares.parts["others"][device] += joules * fraction * (1.0 - idle_share)
    active_j, members_j = cpu_shares(window)
    own_j = members_j.get(key, 0.0)
    shares.parts["others"]["cpu"] += (active_j - own_j) * fraction
    tree_s = window.members[key].cpu_s * fraction if key in window.members else 0.0
    _book(shares, "cpu", own_j * fraction, busy.cpu, tree_s)
    for gpu in window.gpus:
        active_j = max(0.0, gpu.joules - gpu.idle_j)
        own_j = active_j * own_gpu_weight(gpu, window, key, piece, busy.gpu, others_usages)
        shares.parts["others"]["gpu"] += (active_j - own_j) * fraction
        for part_j, of_part in split_gpu(gpu, key, own_j * fraction, busy.gpu):
            _book(shares, "gpu", part_j, of_part, 0.0)
    return shares


def _book(
    shares: Shares,
    device: str,
    joules: float,
    busy_s: Mapping[tuple[int, int | None, bool], float],
    available_s: float,
) -> None:
    """Split our active joules of a device over trials and padding; what is left is overhead.

    `available_s` is the processor time our tree really got; where workers report more than that
    (they were preempted, or ticks were rounded), theirs is scaled down to it.
    """
    whole_s = max(available_s, sum(busy_s.values()))
    if whole_s <= 0:
        shares.parts["overhead"][device] += joules
        return
    booked_j = 0.0
    for (_, trial_id, wasted), seconds in busy_s.items():
        part_j = joules * seconds / whole_s
        booked_j += part_j
        if trial_id is None:
            shares.parts["padding"][device] += part_j
        else:
            shares.parts["trials"][device] += part_j
            trial = shares.trials.setdefault(trial_id, dict.fromkeys(DEVICES, 0.0))
            trial[device] += part_j
        shares.wasted_j += part_j if wasted else 0.0
    shares.parts["overhead"][device] += max(0.0, joules - booked_j)
