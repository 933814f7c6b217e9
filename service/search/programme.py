"""What a search does, stage after stage: planned rounds, those that step 7 adds, extensions.

The list is made from the spec and the ledger each time a search is run, so a resumed or extended
search has the same stages as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from search_spaces import Space
from service.search.context import SearchContext
from service.search.spec import RoundSpec
from service.search.spec_plan import further_round


@dataclass(frozen=True)
class Stage:
    """One entry of a search's programme."""

    number: int
    """The round's number in the ledger."""
    kind: str
    """`search`, `finalists` or `prolong` (more epochs for the best)."""
    spec: RoundSpec | None = None
    epochs: int = 0
    space: Space | None = None
    """A space given by the user for this round, instead of a refined one."""
    added: bool = False
    """Whether step 7 added the round to the planned ones."""


class Programme(Iterator[Stage]):
    """The stages of a search in order, finished ones included."""

    def __init__(self, context: SearchContext) -> None:
        self._context = context
        extensions = _extensions(context)
        self._first_end = _first_end(context, extensions)
        planned = [Stage(n, "search", spec) for n, spec in enumerate(context.spec.plan())]
        if self._first_end is not None:
            planned = [stage for stage in planned if stage.number < self._first_end]
        finalists = len(planned) if self._first_end is None else self._first_end
        self._left = [*planned, Stage(finalists, "finalists"), *extensions]
        self._done: list[int] = []

    def __next__(self) -> Stage:
        if not self._left:
            raise StopIteration
        stage = self._left.pop(0)
        if stage.spec is not None:
            self._done.append((stage.spec.trials or 0) * stage.spec.seeds)
        return stage

    def skip_rounds(self) -> None:
        """Leave out the rounds up to the next finalists."""
        while self._left and self._left[0].kind == "search":
            self._left.pop(0)

    def why_last(self, stage: Stage) -> str:
        """Say why no search round can follow a stage; empty where one can."""
        if self._next_is_a_round():
            return ""
        found, reason = self._further(stage)
        return "" if found else reason

    def go_on(self, stage: Stage) -> None:
        """Add a refined round after the last planned one, where budget and spec allow it."""
        found, _ = self._further(stage)
        if self._next_is_a_round() or found is None:
            return
        added = Stage(stage.number + 1, "search", found, added=True)
        rest = self._left[1:]
        finalists = added.number + 1 if self._first_end is None else self._first_end
        self._left = [added, Stage(finalists, "finalists"), *rest]

    def _next_is_a_round(self) -> bool:
        return bool(self._left) and self._left[0].kind == "search"

    def _further(self, stage: Stage) -> tuple[RoundSpec | None, str]:
        """Return the round that may follow the last planned one, or why there is none."""
        if self._first_end is not None and stage.number + 1 >= self._first_end:
            return None, "the finalists of these rounds are trained already"
        return further_round(self._context.spec, self._done)


def _extensions(context: SearchContext) -> list[Stage]:
    """Return what `isoflop extend` asked for, each with finalists of its own."""
    stages: list[Stage] = []
    for event in context.ledger.events(context.search_id, "extension"):
        number = int(event.payload["number"])
        if event.payload.get("trials") is None:
            stages.append(Stage(number, "prolong", epochs=int(event.payload["epochs"])))
        else:
            space = event.payload.get("space")
            stages.append(
                Stage(
                    number,
                    "search",
                    RoundSpec.model_validate(event.payload["round"]),
                    space=Space.from_mapping(space) if space else None,
                )
            )
        stages.append(Stage(number + 1, "finalists"))
    return stages


def _first_end(context: SearchContext, extensions: list[Stage]) -> int | None:
    """Return the number at which the planned rounds ended, or None while they go on.

    They end with the first finalists, or where the first extension begins. What a budget kept
    from being run by then is not made up for when the search is extended.
    """
    ends = [r.round for r in context.ledger.rounds(context.search_id) if r.kind == "finalists"]
    return min([*ends, *(stage.number for stage in extensions)], default=None)
