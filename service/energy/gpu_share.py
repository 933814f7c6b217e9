"""Which part of a GPU's active energy belongs to a search, and to which of its workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from service.energy.pieces import Piece
from service.energy.windows import GpuUse, Window
from service.messages import Usage

Busy = Mapping[tuple[int, int | None, bool], float]
"""Busy seconds by (pid, trial or None for padding, wasted)."""


def own_gpu_weight(
    gpu: GpuUse,
    window: Window,
    key: str,
    piece: Piece,
    busy_s: Busy,
    others_usages: Mapping[str, Sequence[Usage]],
) -> float:
    """Return our share, in [0, 1], of one GPU's active energy in a window.

    Where the driver told which process used the GPU, the window has the answer. Otherwise the
    members alive share it by the GPU-busy seconds their workers reported; if one of them reported
    none (its usages are in another ledger, or it does not use GPUs), they share it equally.
    """
    if gpu.method != "usage":
        return gpu.members.get(key, 0.0)
    if key not in window.members:
        return 0.0
    reported_s = {key: sum(busy_s.values())}
    for other in window.members:
        if other != key:
            search_id = other.rsplit(":", 1)[0]
            reported_s[other] = _gpu_busy_s(others_usages.get(search_id, ()), piece)
    whole_s = sum(reported_s.values())
    if whole_s > 0 and all(seconds > 0 for seconds in reported_s.values()):
        return reported_s[key] / whole_s
    return 1.0 / len(window.members)


def split_gpu(gpu: GpuUse, key: str, own_j: float, busy_s: Busy) -> Iterator[tuple[float, Busy]]:
    """Yield (joules, busy seconds to split them by); no busy seconds: nobody's trial used them.

    Where processes are known, each worker's trials share what that worker used.
    """
    own_weight = gpu.members.get(key, 0.0)
    if gpu.method == "usage" or own_weight <= 0:
        yield own_j, busy_s
        return
    rest_j = own_j
    for pid in sorted({pid for pid, _, _ in busy_s} & set(gpu.pids)):
        part_j = min(rest_j, own_j * gpu.pids[pid] / own_weight)
        rest_j -= part_j
        yield part_j, {of: seconds for of, seconds in busy_s.items() if of[0] == pid}
    yield rest_j, {}


def _gpu_busy_s(usages: Sequence[Usage], piece: Piece) -> float:
    total = 0.0
    for usage in usages:
        overlap_s = min(usage.ended_s, piece.ended_s) - max(usage.started_s, piece.started_s)
        if usage.host == piece.host and usage.device != "cpu" and overlap_s > 0:
            busy_s = sum(usage.trial_busy_s.values()) + usage.padding_s
            total += busy_s * overlap_s / (usage.ended_s - usage.started_s)
    return total
