"""Samplers that learn nothing and answer at once: grid, random and Sobol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from search_spaces import Space
from search_spaces.distributions import Interval
from service.search.samplers.told import Ask, Told
from trainers.errors import SpaceError

MAX_GRID_POINTS = 1_000_000
MAX_ENUMERATED = 100_000
"""A finite space up to this size is listed to find what has not been tried yet."""
SOBOL_INDEX = "sobol_index"


class Proposer(Protocol):
    """A source of configurations; the caller refuses those tried before or not allowed."""

    def propose(self) -> Ask | None:
        """Return the next configuration, or None when there is none left."""

    def reject(self) -> None:
        """Take note that the last proposal was not used."""


class Listed:
    """Every configuration of a list once, in a random order fixed by the seed."""

    def __init__(self, points: Sequence[dict[str, object]], seed: int) -> None:
        order = np.random.default_rng(seed).permutation(len(points))
        self._points = (points[i] for i in order)

    def propose(self) -> Ask | None:
        """Return the next point of the list."""
        point = next(self._points, None)
        return None if point is None else Ask(params=dict(point))

    def reject(self) -> None:
        """Nothing to do: each point comes up once anyway."""


def grid(space: Space, seed: int) -> Listed:
    """Return the exact product of all grid points, shuffled so that a part of it is no corner.

    Raises:
        SpaceError: if an interval has neither `grid` nor `step`, or the product is too large.

    """
    num_points = 1
    for path, dimension in space.items():
        try:
            num_points *= len(dimension.grid_points())
        except SpaceError as error:
            raise SpaceError(f"`space.{path}`: {error}") from None
    if num_points > MAX_GRID_POINTS:
        raise SpaceError(
            f"a grid may have {MAX_GRID_POINTS:,} points, but this one has {num_points:,}; "
            "lower `grid`, or use `sampler: sobol`"
        )
    return Listed(space.grid(), seed)


def every_point(space: Space) -> list[dict[str, object]] | None:
    """List all configurations of a finite space, or None if it is too large or continuous."""
    size = space.size
    if size is None or size > MAX_ENUMERATED:
        return None
    # `grid` picks some points of an interval for the grid sampler; here all of them count.
    dimensions = {
        path: replace(d, grid=None) if isinstance(d, Interval) else d for path, d in space.items()
    }
    return Space(dimensions).grid()


class Random:
    """Independent draws."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._rng = space, np.random.default_rng(seed)

    def propose(self) -> Ask | None:
        """Return an independent draw."""
        return Ask(params=self._space.sample(self._rng))

    def reject(self) -> None:
        """Nothing to do: draws are independent."""


class Sobol:
    """A scrambled Sobol sequence (scipy) over the unit cube of the space.

    The scramble belongs to the search and the index is recorded with each trial, so a resumed
    batch, and a refined round, goes on where the last one ended. Positions are those of the
    *present* space's cube: narrowing maps the same sequence into the smaller box, and it stays
    evenly spread (Optuna's QMC sampler keeps the old box and does not).
    """

    def __init__(self, space: Space, search_seed: int, told: Sequence[Told]) -> None:
        from scipy.stats import qmc  # takes half a second to import: only here

        self._space = space
        indices = [int(row.attrs[SOBOL_INDEX]) for row in told if SOBOL_INDEX in row.attrs]
        self._index = max(indices, default=-1) + 1
        num_dimensions = max(len(space), 1)
        self._engine = qmc.Sobol(num_dimensions, scramble=True, rng=search_seed)
        if self._index:
            self._engine.fast_forward(self._index)

    def propose(self) -> Ask | None:
        """Return the next point of the sequence, with its index."""
        point = self._engine.random(1)[0][: len(self._space)]
        ask = Ask(params=self._space.from_unit(point.tolist()), attrs={SOBOL_INDEX: self._index})
        self._index += 1
        return ask

    def reject(self) -> None:
        """Nothing to do: the index has moved on."""
