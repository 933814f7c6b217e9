"""What must be said beside every energy figure: by which method, how sure, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.energy.attribution import OWN_PARTS, PARTS, Attribution
from service.energy.meter import MEASURED_METHODS
from service.energy.pieces import DEVICES
from service.energy.windows import Window

BOUNDARY = (
    "CPU, memory and GPUs of the host; not power supply losses, fans, disks, network or embodied "
    "carbon; PUE is applied where a site is named"
)
ATTRIBUTION = {
    "cpu": "active energy by CPU time of process trees, then by measured busy time per fuse group",
    "ram": "constant power of the host, shared equally over the searches alive",
    "gpu": "NVML counters per GPU; processes by the method listed under gpu_attribution",
}


def measured_share(attribution: Attribution) -> float:
    """Return the share of own energy that comes from a sensor rather than from a model."""
    measured_j = own_j = 0.0
    for share in attribution.shares:
        for device in DEVICES:
            joules = sum(share.parts[part][device] for part in OWN_PARTS)
            own_j += joules
            window = share.piece.window
            if window is not None and window.methods.get(device) in MEASURED_METHODS:
                measured_j += joules
    return measured_j / own_j if own_j > 0 else 0.0


def describe_meters(
    attribution: Attribution, meters: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return what ENERGY figures rest on, as a plain mapping.

    Args:
        attribution: the accounts.
        meters: facts of each meter epoch that a search's windows came from.

    """
    windows = [share.piece.window for share in attribution.shares]
    measured = [window for window in windows if window is not None]
    gaps: dict[str, float] = {}
    for share in attribution.shares:
        if share.piece.window is None:
            reason = share.piece.gap_reason
            gaps[reason] = gaps.get(reason, 0.0) + share.piece.seconds
    return {
        "meters": _once(meter.get("meter", "unknown") for meter in meters),
        "methods": {device: _method(measured, device) for device in DEVICES},
        "estimated": {
            device: not all(window.methods.get(device) in MEASURED_METHODS for window in measured)
            for device in DEVICES
        },
        "details": [dict(meter) for meter in meters],
        "hosts": _once(f"{window.host}/{window.boot_id}" for window in measured),
        "meter_epochs": _once(window.meter_epoch for window in measured),
        "num_windows": len(measured),
        "window_s": "at most 1 s, and forced at borders",
        "idle": _idle(measured, meters),
        "attribution": ATTRIBUTION,
        "gpu_attribution": _share_of_methods(measured),
        "gpu_check": _once(
            window.methods["gpu_check"] for window in measured if "gpu_check" in window.methods
        ),
        "gap_seconds": gaps,
        "joules": {part: attribution.part_j(part) for part in PARTS},
        "wasted_j": attribution.wasted_j,
        "boundary": BOUNDARY,
        "view": "own: active and its share of idle; ranking of trials uses active energy only",
        "accuracy": "bookkeeping 1e-9; a model's absolute values (cpu_load, memory) have no bound "
        "and compare only within one type of host",
    }


def _once(values: Iterable[str]) -> list[str]:
    return sorted(set(values))


def _method(windows: Sequence[Window], device: str) -> str:
    """Return the method that most windows used."""
    counted = Counter(window.methods.get(device, "none") for window in windows)
    return counted.most_common(1)[0][0] if counted else "none"


def _idle(windows: Sequence[Window], meters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    seconds = sum(window.seconds for window in windows)
    idle_j = sum(window.cpu_idle_j for window in windows)
    told = any(meter.get("cpu_idle_w") is not None for meter in meters)
    if told:
        how = "10 % of TDP, the floor of the CPU model"
    elif idle_j > 0:
        how = "the quietest window of this meter, under 5 % of the cores busy"
    else:
        how = "not known: no quiet window seen, so all CPU energy counts as active"
    return {"cpu_w": idle_j / seconds if seconds else 0.0, "how": how}


def _share_of_methods(windows: Sequence[Window]) -> dict[str, float]:
    """Return method -> share of the GPUs' energy that was attributed by it."""
    joules: dict[str, float] = {}
    for window in windows:
        for gpu in window.gpus:
            joules[gpu.method] = joules.get(gpu.method, 0.0) + gpu.joules
    whole_j = sum(joules.values())
    return {method: part_j / whole_j for method, part_j in joules.items()} if whole_j else {}
