"""The words between a search and its samplers: what is told, and what is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, overload

import numpy as np

ToldState = Literal["complete", "pruned", "running", "diverged", "infeasible", "failed"]
"""failed: its worker died, so nothing is known about the configuration."""

Params: TypeAlias = Mapping[str, Any]
"""Searched path -> value, for those hyperparameters that are active."""
Key: TypeAlias = tuple[tuple[str, bool, Any], ...]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a sampler may know of one trial: a row of the ledger."""

    number: int
    """The trial id; rows are always told in its order."""
    params: Params
    values: tuple[float, ...] | None = None
    """The objectives' values at the horizon, for complete and infeasible trials."""
    state: ToldState = "complete"
    intermediate: Mapping[int, float] = field(default_factory=dict)
    """Epoch -> value of the primary objective, for pruned trials."""
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """`Ask.attrs` of the ask this trial came from."""
    constraints: Mapping[str, float] = field(default_factory=dict)
    """Constraint -> excess (`objectives.excess`); above 0 is infeasible."""
    horizon_epochs: int | None = None
    """Full length of the trial: values of other lengths are never compared."""
    round: int = 0
    batch: int = 0

    @cached_property
    def key(self) -> Key:
        """A hashable that is equal for equal configurations."""
        return params_key(self.params)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One configuration to try."""

    params: dict[str, Any]
    attrs: dict[str, Any] = field(default_factory=dict)
    """The sampler's state, JSON-able: to be stored and told again as `Told.attrs`."""


@dataclass(frozen=True, kw_only=True)
class Asked(Sequence[Ask]):
    """The configurations of one batch; fewer than asked for where the space is exhausted."""

    asks: tuple[Ask, ...]
    exhausted: str = ""
    """Why there is nothing more to try, in words; empty while there is."""
    sampler: str = ""
    """The sampler that was used, after any fall-back."""
    reason: str = ""
    """Why another sampler than the one named was used; empty if it was not."""
    seconds: float = field(default=0.0, compare=False)
    """How long the asking took."""

    def __len__(self) -> int:
        return len(self.asks)

    def __iter__(self) -> Iterator[Ask]:
        return iter(self.asks)

    @overload
    def __getitem__(self, index: int) -> Ask: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Ask]: ...
    def __getitem__(self, index: int | slice) -> Ask | Sequence[Ask]:
        return self.asks[index]


def params_key(params: Params) -> Key:
    """Return a hashable that is equal for equal configurations (1 is 1.0, but not true)."""
    return tuple((path, isinstance(v, bool), v) for path, v in sorted(params.items()))


def batch_seed(search_seed: int, round_index: int, batch: int) -> int:
    """Return the sampler's seed for one batch: the same after a kill, other for every batch."""
    # Rounds count from -1 (the recipe's checks); entropy must not be negative.
    sequence = np.random.SeedSequence([search_seed, round_index + 1, batch])
    return int(sequence.generate_state(1)[0])


def deterministic_view(told: Iterable[Told], round_index: int, batch: int) -> list[Told]:
    """Return what batch `batch` may know, whatever the workers' timing: the ask-ahead rule.

    Workers must not idle while a sampler thinks, so batch b is asked while batch b - 1 trains.
    It knows batches up to b - 2 with their results (they are complete by then), batch b - 1 as
    running (the sampler keeps away from it: constant liar), and nothing later. Earlier rounds
    are complete. The caller asks for batch b once batch b - 2 has ended.
    """
    view = []
    for row in told:
        if row.round > round_index or (row.round == round_index and row.batch >= batch):
            continue
        if row.round == round_index and row.batch == batch - 1:
            row = replace(row, state="running", values=None, intermediate={}, constraints={})
        view.append(row)
    return sorted(view, key=lambda row: row.number)
