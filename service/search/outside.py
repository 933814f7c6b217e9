"""Trials from elsewhere (`start_from.trials`), as samplers are told of them.

They are evidence only: they count neither in budgets nor in energy, and a sampler hears of those
alone that were trained as long as the round's own trials.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.search.samplers import Told
from service.search.spec import SearchSpec

if TYPE_CHECKING:
    from service.search.evidence import EvidenceRow

BEFORE_ALL_ROUNDS = -1


def outside_evidence(spec: SearchSpec) -> tuple[list[Told], list[str]]:
    """Return what is known from elsewhere, and sentences about what could not be used."""
    if spec.start_from.trials is None:
        return [], []
    from service.search.evidence import load_evidence  # pandas: most searches start from nothing

    objectives = [objective.metric for objective in spec.objective_list]
    table = load_evidence(spec.start_from.trials, spec.space, objectives)
    usable = [row for row in table.rows if row.epochs is not None]
    notes = [f"{table.source}: {sentence}" for sentence in table.skipped]
    if len(usable) < len(table.rows):
        notes.append(
            f"{table.source}: {len(table.rows) - len(usable)} trials do not say how many epochs "
            "they were trained, so no sampler is told of them; add a column `epochs`"
        )
    # Numbers below 0 come before the search's own trials and never clash with them.
    told = [_told(row, number - len(usable), objectives) for number, row in enumerate(usable)]
    return [one for one in told if one is not None], notes


def _told(row: EvidenceRow, number: int, objectives: list[str]) -> Told | None:
    if any(metric not in row.metrics for metric in objectives):
        return None
    return Told(
        number=number,
        params=row.params,
        values=tuple(float(row.metrics[metric]) for metric in objectives),
        horizon_epochs=row.epochs,
        round=BEFORE_ALL_ROUNDS,
    )
