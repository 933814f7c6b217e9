"""A search space: dotted paths into a trial's configuration, each with its distribution."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter
from typing import Any, Self

import numpy as np

from search_spaces.conditions import Scalar, same
from search_spaces.constructors import distribution
from search_spaces.distributions import Distribution
from trainers.config import TrialConfig
from trainers.errors import SpaceError, nearest

MAX_GRID_POINTS = 200_000

Params = dict[str, Any]
"""Searched path -> value, for those hyperparameters that are active."""


class Space(Mapping[str, Distribution]):
    """An immutable mapping from dotted path to distribution, in the order of the spec.

    A hyperparameter with `when` is active only where its conditions hold; params never hold an
    inactive one.
    """

    def __init__(self, dimensions: Mapping[str, Any] | None = None) -> None:
        self._dimensions: dict[str, Distribution] = {}
        for path, value in _flat_dimensions(dimensions or {}):
            if path in self._dimensions:
                raise SpaceError(f"`space.{path}` is given twice; keep one")
            try:
                self._dimensions[path] = distribution(value)
            except SpaceError as error:
                raise SpaceError(f"`space.{path}`: {error}") from None
        self._check_conditions()
        self._order = self._topological_order()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build from the plain form of spec files; Python distributions may be mixed in.

        Raises:
            SpaceError: naming the path, the rule it breaks, the value and the next step.

        """
        return cls(mapping)

    def to_mapping(self) -> dict[str, Any]:
        """Return the plain form; `from_mapping` gives an equal space back."""
        return {path: dimension.to_mapping() for path, dimension in self._dimensions.items()}

    def __getitem__(self, path: str) -> Distribution:
        return self._dimensions[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._dimensions)

    def __len__(self) -> int:
        return len(self._dimensions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self._dimensions == other._dimensions

    __hash__ = None  # type: ignore[assignment]  # conditions are mappings

    def __repr__(self) -> str:
        return f"Space({self.to_mapping()!r})"

    def _check_conditions(self) -> None:
        for path, dimension in self._dimensions.items():
            for parent, values in dimension.when.items():
                if parent not in self._dimensions:
                    raise SpaceError(
                        f"`space.{path}`: `when` names `{parent}`, which is not searched"
                        f"{nearest(parent, [p for p in self if p != path])}"
                    )
                for value in values:
                    if not self._dimensions[parent].contains(value):
                        raise SpaceError(
                            f"`space.{path}`: `when` waits for {parent} = {value!r}, which "
                            f"`space.{parent}` = {self[parent].to_mapping()} never is; "
                            "name one of its values"
                        )

    def _topological_order(self) -> tuple[str, ...]:
        graph = {path: list(dimension.when) for path, dimension in self._dimensions.items()}
        try:
            return tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            cycle = " -> ".join(reversed(error.args[1]))
            raise SpaceError(
                f"`when` must not go round in a circle, but {cycle} does; "
                f"remove the condition of `space.{error.args[1][0]}`"
            ) from None

    def is_active(self, path: str, params: Mapping[str, Any]) -> bool:
        """Whether all conditions of `path` hold in `params`."""
        return all(
            parent in params and any(same(params[parent], value) for value in values)
            for parent, values in self._dimensions[path].when.items()
        )

    def active(self, params: Mapping[str, Any]) -> list[str]:
        """List the paths that exist under `params`, in the order of the spec."""
        known: Params = {}
        for path in self._order:
            if path in params and self.is_active(path, known):
                known[path] = params[path]
        return [path for path in self if self.is_active(path, known)]

    def violation(self, params: Mapping[str, Any]) -> str | None:
        """Say why `params` is no point of this space; None if it is one."""
        for path in params:
            if path not in self:
                return f"`{path}` is not searched{nearest(path, list(self))}"
        active = self.active(params)
        for path in self:
            if path in active and path not in params:
                return f"`{path}` is missing"
            if path in params and path not in active:
                return f"`{path}` is given, but its `when` does not hold"
            if path in params and not self[path].contains(params[path]):
                return f"`{path}` = {params[path]!r} is not in {self[path].to_mapping()}"
        return None

    def contains(self, params: Mapping[str, Any]) -> bool:
        """Whether `params` has exactly the active paths, each inside its distribution."""
        return self.violation(params) is None

    def from_unit(self, point: Sequence[float]) -> Params:
        """Return the params at a point of the unit cube, one coordinate per path in order."""
        coordinates = dict(zip(self, point, strict=True))
        params: Params = {}
        for path in self._order:
            if self.is_active(path, params):
                params[path] = self[path].from_unit(float(coordinates[path]))
        return {path: params[path] for path in self if path in params}

    def to_unit(self, params: Mapping[str, Any], missing: float = 0.5) -> list[float]:
        """Return the point of the unit cube; inactive paths are put at `missing`."""
        return [self[p].to_unit(params[p]) if p in params else missing for p in self]

    def sample(self, rng: np.random.Generator) -> Params:
        """Draw params at random; `len(space)` numbers are drawn, whatever is active."""
        return self.from_unit(rng.random(len(self)).tolist())

    def grid(self) -> list[Params]:
        """Return the exact product of all grid points, each active combination once.

        Raises:
            SpaceError: if a continuous interval has neither `grid` nor `step`.

        """
        points: list[Params] = [{}]
        for path in self._order:
            try:
                values = self[path].grid_points()
            except SpaceError as error:
                raise SpaceError(f"`space.{path}`: {error}") from None
            points = self._extended(points, path, values)
        return [{path: params[path] for path in self if path in params} for params in points]

    def _extended(self, points: list[Params], path: str, values: list[Scalar]) -> list[Params]:
        """Give every point each value of `path`, or leave it as it is where `path` is inactive."""
        extended = [
            {**params, **extra}
            for params in points
            for extra in (
                [{path: value} for value in values] if self.is_active(path, params) else [{}]
            )
            if len(points) * len(values) <= MAX_GRID_POINTS
        ]
        if not extended:
            raise SpaceError(
                f"a grid has at most {MAX_GRID_POINTS:,} points, but `space.{path}` brings it to "
                f"{len(points) * len(values):,}; take fewer grid points, or another sampler"
            )
        return extended

    @property
    def is_finite(self) -> bool:
        """Whether the space holds a finite number of different params."""
        return all(dimension.count is not None for dimension in self._dimensions.values())

    @property
    def size(self) -> int | None:
        """Number of different params; None: a continuum.

        Where a hyperparameter that others wait for has very many values, this is an upper bound
        (as if everything were active).
        """
        if not self.is_finite:
            return None
        parents = {parent for d in self._dimensions.values() for parent in d.when}
        counts = {path: dimension.count or 1 for path, dimension in self._dimensions.items()}
        if math.prod(counts[parent] for parent in parents) > MAX_GRID_POINTS:
            return math.prod(counts.values())
        states: list[Params] = [{}]
        for path in sorted(parents, key=self._order.index):
            states = self._extended(states, path, self[path].all_values())
        return sum(
            math.prod(counts[p] for p in self if p not in parents and self.is_active(p, state))
            for state in states
        )

    def replaced(self, changes: Mapping[str, Distribution]) -> Space:
        """Return the space with some distributions changed.

        Conditions that can no longer hold are taken out, and so are the hyperparameters that
        could then never be active.
        """
        dimensions = {**self._dimensions, **changes}
        while True:
            shrunk = {
                path: replace(dimension, when=when)
                for path, dimension in dimensions.items()
                if (when := _possible(dimension, dimensions)) is not None
            }
            if shrunk == dimensions:
                return Space(shrunk)
            dimensions = shrunk

    def fixed(self, path: str, value: Scalar) -> tuple[Space, list[str]]:
        """Take `path` out of the space because it now has one value; settle conditions on it.

        Returns:
            The space left, and a sentence for each thing that went.

        """
        notes = [f"`{path}` is fixed to {value!r} and no longer searched"]
        dimensions: dict[str, Distribution] = {}
        for other, dimension in self._dimensions.items():
            if other == path:
                continue
            wanted = dimension.when.get(path)
            if wanted is not None and not any(same(value, w) for w in wanted):
                notes.append(f"`{other}` is not searched: it needs {path} in {list(wanted)}")
                continue
            when = {parent: v for parent, v in dimension.when.items() if parent != path}
            dimensions[other] = replace(dimension, when=when)
        return _without_orphans(dimensions, notes), notes


def _possible(
    dimension: Distribution, dimensions: Mapping[str, Distribution]
) -> dict[str, tuple[Scalar, ...]] | None:
    """Return the conditions that can still hold; None if one never can."""
    when: dict[str, tuple[Scalar, ...]] = {}
    for parent, values in dimension.when.items():
        if parent not in dimensions:
            return None
        when[parent] = tuple(v for v in values if dimensions[parent].contains(v))
        if not when[parent]:
            return None
    return when


def _without_orphans(dimensions: dict[str, Distribution], notes: list[str]) -> Space:
    """Drop hyperparameters whose parent went, and theirs in turn."""
    while orphans := [p for p, d in dimensions.items() if _possible(d, dimensions) is None]:
        for path in orphans:
            notes.append(f"`{path}` is not searched: what its `when` names is gone")
            del dimensions[path]
    return Space(dimensions)


def _flat_dimensions(mapping: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted path, plain distribution); sections may be nested as in a spec's body."""
    if not isinstance(mapping, Mapping):
        raise SpaceError(f"`space` maps dotted paths to distributions, but got {mapping!r}")
    sections = {*TrialConfig.model_fields, "regularisation.early_stopping"}
    for key, value in mapping.items():
        path = str(key)
        if path in sections and isinstance(value, Mapping):
            inner = {f"{path}.{name}": below for name, below in value.items()}
            yield from _flat_dimensions(inner)
        else:
            yield path, value
