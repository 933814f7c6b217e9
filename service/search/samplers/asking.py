"""`ask`: the next configurations of a round, a pure function of what is told and the seed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from search_spaces import Space
from service.search.objectives import Objective
from service.search.samplers import inline
from service.search.samplers.choosing import MODEL_BASED, choose_batch_size, resolve_sampler
from service.search.samplers.evidence import STARTUP_TRIALS, evidence, num_ended
from service.search.samplers.inline import Proposer
from service.search.samplers.told import (
    Ask,
    Asked,
    Params,
    Told,
    batch_seed,
    params_key,
)

Refuse: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Says why a configuration may not be tried (known before training, e.g. too many parameters),
or None. Picklable by name where the asking happens in a process of its own."""

_TRIES = 20
"""Proposals of one sampler for one place before the place is filled at random."""
_RANDOM_TRIES = 1000
"""Random draws for one place before the space counts as exhausted."""
DEFAULT_OBJECTIVES = (Objective(metric="val_error"),)


def ask(
    sampler: str,
    space: Space,
    told: Sequence[Told],
    n: int,
    seed: int,
    objectives: Sequence[Objective] = DEFAULT_OBJECTIVES,
    *,
    round_index: int = 0,
    batch: int = 0,
    horizon_epochs: int | None = None,
    num_planned: int | None = None,
    avoid: Iterable[Params] = (),
    refuse: Refuse | None = None,
) -> Asked:
    """Return up to `n` configurations, none tried before.

    Pure: the same arguments give the same answer in any process. `told` is taken in order of
    trial id whatever its order here.

    Args:
        sampler: a name other than `auto`.
        space: the round's space.
        told: rows of this search (see `deterministic_view`), of earlier rounds too: those of
            the same horizon inside the space are evidence, all carry the Sobol sequence on.
        n: how many are wanted.
        seed: the search's own seed; each batch draws from a stream of its own.
        objectives: names and directions, in the order of `Told.values`.
        round_index: the round.
        batch: the batch within the round.
        horizon_epochs: length of the round's trials: only rows of this length are learnt from,
            and only their configurations count as tried. None: all rows.
        num_planned: trials planned for the round; `n` by default.
        avoid: further configurations not to ask for.
        refuse: rule for what may be asked. What it refuses is never told as a bad result.

    Returns:
        Fewer than `n`, with `exhausted` saying why, where no more are left: a finite space
        or a grid is then known to be tried whole.

    Raises:
        ConfigError: for an unknown sampler, or a grid over an interval without grid points.

    """
    started_s = time.perf_counter()
    name, reason = resolve_sampler(sampler, space, objectives)
    stream = batch_seed(seed, round_index, batch)
    same_length = [
        row
        for row in told
        if horizon_epochs is None or row.horizon_epochs in (None, horizon_epochs)
    ]
    taken = {row.key for row in same_length} | {params_key(p) for p in avoid}
    rows = evidence(told, space, horizon_epochs) if name in MODEL_BASED else []
    source: Proposer
    if name == "grid":
        source = inline.grid(space, batch_seed(seed, round_index, 0))
    elif name == "random":
        source = inline.Random(space, stream)
    elif name == "sobol" or _starts_up(name, rows):
        source = inline.Sobol(space, seed, told)
    else:
        # Optuna, and torch behind its GP, take a second to import: only who learns pays for it.
        from service.search.samplers.model_based import ModelBased

        planned = max(num_planned or n, n)
        source = ModelBased(
            name,
            space,
            rows,
            objectives,
            seed=stream,
            round_index=round_index,
            batch_size=choose_batch_size(name, planned)[0],
            num_planned=planned,
        )
    picker = _Picker(space, taken, refuse, stream, complete_list=name == "grid")
    asks = picker.pick(source, n)
    return Asked(
        asks=tuple(asks),
        exhausted=picker.exhausted,
        sampler=name,
        reason=reason,
        seconds=time.perf_counter() - started_s,
    )


def _starts_up(name: str, rows: Sequence[Told]) -> bool:
    """Say whether TPE or GP know too little; Optuna would draw independent points at random."""
    return name in ("tpe", "gp") and num_ended(rows) < STARTUP_TRIALS


class _Picker:
    """Takes proposals that are new and allowed, in bounded time."""

    def __init__(
        self,
        space: Space,
        taken: set[Any],
        refuse: Refuse | None,
        seed: int,
        *,
        complete_list: bool,
    ) -> None:
        self._space, self._taken, self._refuse, self._seed = space, taken, refuse, seed
        self._complete_list = complete_list
        self._filler: Proposer | None = None
        self._last_refusal = ""
        self.exhausted = ""

    def pick(self, source: Proposer, n: int) -> list[Ask]:
        """Return up to `n` asks; sets `exhausted` if there are fewer."""
        asks: list[Ask] = []
        while len(asks) < n:
            ask = self._next(source, None if self._complete_list else _TRIES)
            if ask is None and not self._complete_list:
                ask = self._fill()
            if ask is None:
                self.exhausted = self._why()
                break
            asks.append(ask)
        return asks

    def _next(self, source: Proposer, tries: int | None) -> Ask | None:
        """Return the source's next usable proposal; None after `tries`, or when it has none."""
        while tries is None or tries > 0:
            ask = source.propose()
            if ask is None:
                return None
            if self._accept(ask):
                return ask
            source.reject()
            tries = None if tries is None else tries - 1
        return None

    def _accept(self, ask: Ask) -> bool:
        key = params_key(ask.params)
        if key in self._taken:
            return False
        refusal = self._refuse(ask.params) if self._refuse else None
        if refusal:
            self._last_refusal = refusal
            return False
        self._taken.add(key)
        return True

    def _fill(self) -> Ask | None:
        """Fill one place at random: from the list of all configurations where there is one."""
        if self._filler is None:
            points = inline.every_point(self._space)
            self._filler = (
                inline.Random(self._space, self._seed)
                if points is None
                else inline.Listed(points, self._seed)
            )
        listed = isinstance(self._filler, inline.Listed)
        return self._next(self._filler, None if listed else _RANDOM_TRIES)

    def _why(self) -> str:
        refused = f"; others are refused (last: {self._last_refusal})" if self._last_refusal else ""
        if self._complete_list:
            return f"every point of the grid has been tried{refused}"
        if isinstance(self._filler, inline.Listed):
            return f"all {self._space.size} configurations of the space have been tried{refused}"
        return f"{_RANDOM_TRIES} random draws gave nothing new{refused}"
