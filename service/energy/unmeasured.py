"""What trials are likely to have used while no meter ran: an estimate, kept beside the accounts.

The energy of a gap stays in the part `gap`, whoever used it. But a trial trained in a gap would
rank as free of cost, and a point of a study would have no energy. Their busy seconds are known
there as elsewhere, so they are priced at what a busy second took in the windows.
"""

from __future__ import annotations

from collections import defaultdict

from service.energy.attribution import Attribution, cpu_shares


def in_gaps_j(attribution: Attribution) -> dict[int, float]:
    """Return {trial_id: joules} for the time that no window covers; never more than the gap took.

    A busy second costs what the search's trials took for one where they were measured; if none
    was, what the host's CPU took (above its idle floor) for a second of any core.
    """
    gap_s: dict[int, float] = defaultdict(float)
    measured_s, measured_j = 0.0, 0.0
    for share in attribution.shares:
        for trial_id, seconds in share.busy_s.items():
            if share.piece.window is None:
                gap_s[trial_id] += seconds
            else:
                measured_s += seconds
                measured_j += sum(share.trials.get(trial_id, {}).values())
    watts = measured_j / measured_s if measured_j > 0 else _watts_per_core(attribution)
    estimated_j = {trial_id: watts * seconds for trial_id, seconds in gap_s.items()}
    spent_j, limit_j = sum(estimated_j.values()), _gap_j(attribution)
    scale = min(1.0, limit_j / spent_j) if spent_j > 0 else 0.0
    return {trial_id: scale * joules for trial_id, joules in estimated_j.items()}


def _watts_per_core(attribution: Attribution) -> float:
    windows = [window for window in attribution.windows if not window.gap_reason]
    busy_s = sum(window.busy_core_s for window in windows)
    return sum(cpu_shares(window)[0] for window in windows) / busy_s if busy_s > 0 else 0.0


def _gap_j(attribution: Attribution) -> float:
    """All but the memory's, whose energy is nobody's in particular."""
    return attribution.part_j("gap", "cpu") + attribution.part_j("gap", "gpu")
