"""Delete checkpoints that nothing will go on from.

Only files of segments that have ended are looked at: everything a worker said about those is in
the ledger. Deleting a file that would have been wanted costs time but no truth, since a trial
without a checkpoint is trained again from its seed, with the same result.
"""

from __future__ import annotations

from pathlib import Path

from service.search.conductor import ENDED, TERMINAL
from service.search.context import SearchContext
from service.search.finalists import candidates

KEPT_FOR_EXTENSION = 10
"""Best finished configurations whose checkpoints are kept, so that `extend` can go on from them."""


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
    return deleted
