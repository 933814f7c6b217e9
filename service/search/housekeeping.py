"""Delete checkpoints that nothing will go on from.

Only files of segments that have ended are looked at: everything a worker said about those is in
the ledger. Deleting a file that would have been wanted costs time but no truth, since a trial
without a checkpoint is trained again from its seed, with the same result.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from service.search.conductor import ENDED, TERMINAL
from service.search.context import SearchContext
from service.search.finalists import candidates

SPARE_BYTES = 256 * 2**20
LEAST_BYTES = 2**20
"""A small file counts as so much, so that there are never thousands of them."""
KEPT_FOR_EXTENSION = 10
"""Best finished configurations whose checkpoints are kept, so that `extend` can go on from them."""


def tidy_when_due(context: SearchContext) -> None:
    """Tidy when the folder has outgrown twice what was kept last time.

    Finding out what is kept reads every trial, so it must not be done for each batch.
    """
    size = _folder_bytes(context)
    if size > 2 * context.kept_bytes + SPARE_BYTES:
        tidy(context)


def _folder_bytes(context: SearchContext) -> int:
    sizes = []
    for path in context.checkpoint_dir.glob("*.pt"):
        with suppress(FileNotFoundError):  # a worker's temporary file, renamed meanwhile
            sizes.append(max(path.stat().st_size, LEAST_BYTES))
    return sum(sizes)


def tidy(context: SearchContext) -> int:
    """Delete what is no longer needed; return how many files."""
    ledger, search_id = context.ledger, context.search_id
    trials = ledger.trials(search_id)
    kept_trials = {trial.trial_id for trial in trials if trial.state not in TERMINAL}
    kept_trials |= {
        trial.trial_id for trial in trials if trial.role in ("incumbent", "finalist", "baseline")
    }
    kept_trials |= {trial.trial_id for trial in candidates(context, KEPT_FOR_EXTENSION)}
    latest = ledger.checkpoints(search_id, sorted(kept_trials))
    kept_files = {Path(ref.path).name for ref in latest.values()}
    ended = {s.segment_id for s in ledger.segments(search_id) if s.state in ENDED}
    deleted = 0
    for path in context.checkpoint_dir.glob("*.pt"):
        if path.name not in kept_files and path.name.split(".")[0] in ended:
            path.unlink(missing_ok=True)
            deleted += 1
    context.kept_bytes = _folder_bytes(context)
    return deleted
