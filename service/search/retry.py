"""What to do with a segment that failed: again, in halves, lane by lane, or fail its one trial.

A pack fails as a whole where one lane kills its worker (on CPU, too little memory shows only as
a death). So a segment is tried three times; then its halves; then the lanes of a failing half
one by one, until the one poisonous lane fails alone. With L lanes, one of them poisonous, that
takes 6 failures and L/2 + 1 more segments, and no other trial is lost.

What a failure says decides how patient to be:

- the worker died: it may have been the machine, so the whole pack is tried three times;
- it raised: the same numbers would raise again, so the pack is split at once;
- it ran out of memory: halves, and halves of halves, until the parts fit;
- the worker died before it took the order up: blameless, the same order again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from service.ledger.records import SegmentRecord
from service.messages import Failed
from service.search.segment import OUT_OF_MEMORY
from trainers.errors import WorkerError

TRIES_OF_A_PACK = 3
TRIES_OF_A_PART = 1
TRIES_OF_A_LANE = 2
"""One more than a part's: a trial is not given up for a single death of its machine."""
MAX_BLAMELESS = 10
"""Workers that may die in a row before they took the segment up."""
PART = "h"
"""Marks a part in a segment's id: `r0b1e4s2` has parts `...h0`, `...h1`, then `...h1h0`, ..."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens next. Neither `again` nor `children`: the segment's one trial has failed."""

    reason: str
    """For people: what failed, and what is done about it."""
    again: tuple[SegmentRecord, ...] = ()
    """The same segment, to be submitted with its next attempt number."""
    children: tuple[SegmentRecord, ...] = ()
    """Its parts, in its place; they inherit the attempt, so that fencing stays monotone."""


class RetryPolicy:
    """Counts a search's failures and decides by them.

    Counts are not durable: after a resume each unfinished segment has all its tries again.
    """

    def __init__(self) -> None:
        self._failures: Counter[str] = Counter()
        self._blameless: Counter[str] = Counter()

    def decide(self, segment: SegmentRecord, failed: Failed) -> Decision:
        """Count this failure and say what follows.

        Raises:
            WorkerError: if `MAX_BLAMELESS` workers in a row died before they took it up.
        """
        name = segment.segment_id
        if failed.began:
            self._failures[name] += 1
            del self._blameless[name]
        else:
            self._blameless[name] += 1
        return decide(
            segment, failed, num_failures=self._failures[name], num_blameless=self._blameless[name]
        )


def decide(
    segment: SegmentRecord, failed: Failed, *, num_failures: int, num_blameless: int
) -> Decision:
    """Say what follows from a failure; a pure function of its arguments.

    Args:
        segment: the one that failed.
        failed: what its last attempt said.
        num_failures: attempts of this segment that began and failed, this one included.
        num_blameless: workers in a row, this one included, that died before they took it up.

    Raises:
        WorkerError: if `num_blameless` reaches `MAX_BLAMELESS`.
    """
    why = failed.error.splitlines()[0] if failed.error else "no reason given"
    if not failed.began:
        if num_blameless >= MAX_BLAMELESS:
            raise WorkerError(
                f"{num_blameless} workers in a row died before they took up segment "
                f"`{segment.segment_id}` (the last: {why}); make `import trainers` work on every "
                "node, then go on with `isoflop resume`"
            )
        return Decision(
            reason=f"{why}, before it took the segment up: tried again", again=(segment,)
        )
    num_lanes = len(segment.trial_ids)
    num_tries = _num_tries(segment, failed)
    if num_failures < num_tries:
        left = num_tries - num_failures
        return Decision(reason=f"{why}: tried again ({left} left)", again=(segment,))
    if num_lanes == 1:
        times = "once" if num_failures == 1 else f"{num_failures} times"
        return Decision(reason=f"{why} (alone, {times})")
    out_of_memory = failed.error.startswith(OUT_OF_MEMORY)
    num_parts = 2 if out_of_memory or not _is_part(segment) else num_lanes
    how = "in halves" if num_parts == 2 else "trial by trial"
    return Decision(
        reason=f"{why}: its {num_lanes} trials are tried {how}",
        children=_split(segment, failed.attempt, num_parts),
    )


def _num_tries(segment: SegmentRecord, failed: Failed) -> int:
    if len(segment.trial_ids) == 1:
        return TRIES_OF_A_LANE
    if failed.worker_died and not _is_part(segment):
        return TRIES_OF_A_PACK
    return TRIES_OF_A_PART


def _is_part(segment: SegmentRecord) -> bool:
    return PART in segment.segment_id


def _split(segment: SegmentRecord, attempt: int, num_parts: int) -> tuple[SegmentRecord, ...]:
    """Cut a segment's trials into nearly equal runs, in order."""
    ids = segment.trial_ids
    edges = [len(ids) * part // num_parts for part in range(num_parts + 1)]
    return tuple(
        replace(
            segment,
            segment_id=f"{segment.segment_id}{PART}{part}",
            trial_ids=ids[edges[part] : edges[part + 1]],
            attempt=attempt,
            state="waiting",
            error="",
        )
        for part in range(num_parts)
    )
