"""The energy accounts of one search, read from the ledger, and what is known about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.energy.attribution import OWN_PARTS, PARTS, Attribution, Spent, attribute
from service.energy.pieces import DEVICES
from service.energy.provenance import describe_meters, measured_share
from service.energy.unmeasured import in_gaps_j
from service.energy.windows import JOULES_PER_KWH, Window, member_key
from service.ledger import Ledger, SpanRecord
from service.messages import Usage

if TYPE_CHECKING:
    import pandas as pd

MARGIN_S = 10.0
"""Windows this far outside a span help to estimate gaps at its edges."""


@dataclass(frozen=True, kw_only=True)
class EnergyAccounts:
    """What a search cost, in kWh at the host's plug side of the power supply (no PUE).

    node = trials + padding + overhead + idle + others + gap; own = all but others and gap.
    """

    search_id: str
    node_kwh: float
    own_kwh: float
    trials_kwh: float
    padding_kwh: float
    overhead_kwh: float
    idle_kwh: float
    others_kwh: float
    gap_kwh: float
    wasted_kwh: float
    """Of trials and padding: work that had to be done again. Not a part of its own."""
    residual: float
    """|node - sum of the parts| / node: rounding only, below 1e-9."""
    seconds: float
    """Length of all spans."""
    gap_seconds: float
    """Of these, not covered by any window."""
    num_windows: int
    measured_share: float
    """Of own energy, the share that a sensor gave; the rest is a model's estimate."""
    cpu_method: str
    ram_method: str
    gpu_method: str
    provenance: Mapping[str, Any]
    per_trial: pd.DataFrame
    """Columns trial_id, active_kwh, cpu, ram, gpu (kWh): active energy only, the parts of which sum
    to `trials_kwh`; and unmeasured_kwh: an estimate of what the trial took of `gap_kwh`. Trials
    are ranked by `cost_kwh`, the sum of both. Memory's is idle energy of the host, so `ram` is 0.
    """
    attribution: Attribution = field(repr=False)

    def parts_kwh(self) -> dict[str, float]:
        """Return {node, own, trials, padding, overhead, idle, others, gap} in kWh."""
        names = ("node", "own", *PARTS)
        return {name: float(getattr(self, f"{name}_kwh")) for name in names}

    def of_trial(self, trial_id: int) -> dict[str, float] | None:
        """Return a trial's row of `per_trial`; None where nothing is known of it."""
        rows = self.per_trial[self.per_trial["trial_id"] == trial_id]
        if rows.empty:
            return None
        return {str(name): float(value) for name, value in rows.iloc[0].items()}

    def frame(self) -> pd.DataFrame:
        """Return one row per window (or gap) and part, with cpu_kwh, ram_kwh, gpu_kwh and kwh."""
        import pandas as pd

        rows = []
        for share in self.attribution.shares:
            piece, window = share.piece, share.piece.window
            for part in PARTS:
                joules = share.parts[part]
                rows.append(
                    {
                        "host": piece.host,
                        "meter_epoch": window.meter_epoch if window else "",
                        "seq": window.seq if window else -1,
                        "started_unix_s": window.started_unix_s if window else float("nan"),
                        "started_s": piece.started_s,
                        "seconds": piece.seconds,
                        "part": part,
                        **{f"{d}_kwh": joules[d] / JOULES_PER_KWH for d in DEVICES},
                        "kwh": sum(joules.values()) / JOULES_PER_KWH,
                        "reason": piece.gap_reason,
                    }
                )
        columns = ["host", "meter_epoch", "seq", "started_unix_s", "started_s", "seconds", "part"]
        columns += [*(f"{device}_kwh" for device in DEVICES), "kwh", "reason"]
        return pd.DataFrame(rows, columns=columns)


def accounts(ledger: Ledger, search_id: str) -> EnergyAccounts:
    """Fold the ledger's windows and usages into the accounts of one search.

    Args:
        ledger: the open ledger.
        search_id: of a search in it.

    Raises:
        LedgerError: there is no such search.

    """
    spans: list[SpanRecord] = [
        span for span in ledger.spans(search_id) if span.ended_s > span.started_s
    ]
    windows = _windows(ledger, spans)
    usages = [Spent(usage=usage) for _, _, usage in ledger.usage(search_id)]
    lost = [event.payload for event in ledger.events(search_id, "worker_lost")]
    usages += _lost_work(lost, windows, usages, search_id, spans)
    attribution = attribute(
        windows,
        usages,
        search_id,
        spans,
        others_usages=_others_usages(ledger, search_id, windows),
    )
    meters = [event.payload for event in ledger.events(search_id, "meter")]
    return _fold(search_id, attribution, spans, meters)


def cost_kwh(per_trial: pd.DataFrame) -> dict[int, float]:
    """Return {trial_id: kWh} by which trials are ranked, of the table of `EnergyAccounts`."""
    return {
        int(trial_id): float(kwh)
        for trial_id, kwh in zip(per_trial["trial_id"], per_trial["cost_kwh"], strict=True)
    }


def _windows(ledger: Ledger, spans: Sequence[SpanRecord]) -> list[Window]:
    rows = {}
    for span in spans:
        for row in ledger.windows(
            span.host, span.boot_id, span.started_s - MARGIN_S, span.ended_s + MARGIN_S
        ):
            rows[row["host"], row["boot_id"], row["meter_epoch"], row["seq"]] = row
    return [Window.from_row(row) for row in rows.values()]


def _lost_work(
    lost: Iterable[Mapping[str, Any]],
    windows: Sequence[Window],
    usages: Sequence[Spent],
    search_id: str,
    spans: Sequence[SpanRecord],
) -> list[Spent]:
    """Turn each dead worker's CPU time since its last border into wasted usage of its trials."""
    keys = {member_key(search_id, span.pid) for span in spans}
    found = []
    for death in lost:
        pid, until_s = int(death["pid"]), float(death["until_s"])
        reported_s = [
            one.usage.ended_s
            for one in usages
            if (one.usage.host, one.usage.pid) == (death["host"], pid)
            and one.usage.ended_s <= until_s
        ]
        since_s = max([float(death["since_s"]), *reported_s])
        busy_s = sum(
            use.pids.get(pid, 0.0) * _overlap(window, since_s, until_s)
            for window in windows
            if window.host == death["host"]
            for key, use in window.members.items()
            if key in keys
        )
        if busy_s > 0 and until_s > since_s and death["trial_ids"]:
            each_s = busy_s / len(death["trial_ids"])
            usage = Usage(
                host=death["host"],
                pid=pid,
                started_s=since_s,
                ended_s=until_s,
                trial_busy_s=dict.fromkeys(death["trial_ids"], each_s),
                padding_s=0.0,
                device=death["device"],
            )
            found.append(Spent(usage=usage, wasted=True))
    return found


def _overlap(window: Window, since_s: float, until_s: float) -> float:
    overlap_s = min(window.ended_s, until_s) - max(window.started_s, since_s)
    return max(0.0, overlap_s) / window.seconds if window.seconds > 0 else 0.0


def _others_usages(
    ledger: Ledger, search_id: str, windows: Sequence[Window]
) -> dict[str, list[Usage]]:
    """Return other searches' usages, where a GPU is shared and its driver does not say by whom."""
    keys = {
        key
        for window in windows
        if any(gpu.method == "usage" for gpu in window.gpus)
        for key in window.members
    }
    others = {key.rsplit(":", 1)[0] for key in keys} - {search_id}
    known = {record.search_id for record in ledger.searches()} if others else set()
    return {one: [usage for _, _, usage in ledger.usage(one)] for one in others & known}


def _fold(
    search_id: str,
    attribution: Attribution,
    spans: Sequence[SpanRecord],
    meters: Sequence[Mapping[str, Any]],
) -> EnergyAccounts:
    part_kwh = {part: attribution.part_j(part) / JOULES_PER_KWH for part in PARTS}
    provenance = describe_meters(attribution, meters)
    return EnergyAccounts(
        search_id=search_id,
        node_kwh=attribution.node_j / JOULES_PER_KWH,
        own_kwh=sum(part_kwh[part] for part in OWN_PARTS),
        trials_kwh=part_kwh["trials"],
        padding_kwh=part_kwh["padding"],
        overhead_kwh=part_kwh["overhead"],
        idle_kwh=part_kwh["idle"],
        others_kwh=part_kwh["others"],
        gap_kwh=part_kwh["gap"],
        wasted_kwh=attribution.wasted_j / JOULES_PER_KWH,
        residual=attribution.residual,
        seconds=sum(span.ended_s - span.started_s for span in spans),
        gap_seconds=attribution.gap_s,
        num_windows=provenance["num_windows"],
        measured_share=measured_share(attribution),
        cpu_method=provenance["methods"]["cpu"],
        ram_method=provenance["methods"]["ram"],
        gpu_method=provenance["methods"]["gpu"],
        provenance=provenance,
        per_trial=_per_trial(attribution),
        attribution=attribution,
    )


def _per_trial(attribution: Attribution) -> pd.DataFrame:
    import pandas as pd

    active_j, unmeasured_j = attribution.trials_j, in_gaps_j(attribution)
    nothing = dict.fromkeys(DEVICES, 0.0)
    rows = []
    for trial_id in sorted(active_j.keys() | unmeasured_j.keys()):
        devices_j = active_j.get(trial_id, nothing)
        own_kwh = sum(devices_j.values()) / JOULES_PER_KWH
        unmeasured_kwh = unmeasured_j.get(trial_id, 0.0) / JOULES_PER_KWH
        rows.append(
            {
                "trial_id": trial_id,
                "active_kwh": own_kwh,
                **{device: devices_j[device] / JOULES_PER_KWH for device in DEVICES},
                "unmeasured_kwh": unmeasured_kwh,
                "cost_kwh": own_kwh + unmeasured_kwh,
            }
        )
    columns = ["trial_id", "active_kwh", *DEVICES, "unmeasured_kwh", "cost_kwh"]
    return pd.DataFrame(rows, columns=columns).astype({"trial_id": "int64"})
