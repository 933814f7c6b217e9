"""Sort trials into packs: one signature each, sized without regard to the number of workers.

A pack must not depend on how many workers there are, or the same seed would train other packs
on another machine; results would agree only as far as kernels are bit-equal.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby

from service.ledger.records import SegmentRecord, TrialRecord
from trainers.trial import ExecutionPlan

MAX_LANES = 32
"""Packs larger than this gain nothing from fusion and make borders coarse."""
LANES_FOR_TWO_PACKS = 4
LANES_PER_EXTRA_PACK = 8
"""From here on up to four packs are made, so that several workers have something to do."""


def pack_sizes(num_trials: int, max_lanes: int = MAX_LANES) -> list[int]:
    """Split `num_trials` of one signature into nearly equal packs of at most `max_lanes`."""
    fewest = -(-num_trials // min(max_lanes, MAX_LANES))
    shared = min(4, num_trials // LANES_PER_EXTRA_PACK)
    two = 2 if num_trials >= LANES_FOR_TWO_PACKS else 1
    num_packs = max(fewest, shared, two)
    small, larger = divmod(num_trials, num_packs)
    return [small + 1] * larger + [small] * (num_packs - larger)


def pack(
    trials: Sequence[TrialRecord],
    signature_of: Callable[[TrialRecord], str],
    plans: Mapping[str, ExecutionPlan],
    *,
    round_: int,
    batch: int,
    rung: int,
    stop_epoch: int,
) -> list[SegmentRecord]:
    """Return waiting segments that together train every trial to `stop_epoch`.

    Trials are taken in (signature, trial id) order. Segment ids are `r<round>b<batch>e<epoch>s<n>`.
    """
    segments: list[SegmentRecord] = []
    ordered = sorted(trials, key=lambda trial: (signature_of(trial), trial.trial_id))
    for signature, group in groupby(ordered, key=signature_of):
        members = [trial.trial_id for trial in group]
        plan = plans.get(signature)
        start = 0
        for size in pack_sizes(len(members), plan.max_lanes if plan else MAX_LANES):
            segments.append(
                SegmentRecord(
                    segment_id=f"r{round_}b{batch}e{stop_epoch}s{len(segments)}",
                    round=round_,
                    batch=batch,
                    rung=rung,
                    trial_ids=tuple(members[start : start + size]),
                    stop_epoch=stop_epoch,
                )
            )
            start += size
    return segments
