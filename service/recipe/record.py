"""The recipe as one recorded object: what each of its seven steps found, and what follows.

The steps are those of the lecture (p. 61-62), with the details of the recipe they come from
(CS231n / EECS 498): the initial loss is taken with decay off, the small sample must reach a
training loss near 0, a learning rate must bring the loss down within about 100 updates.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

STEP_NAMES = {
    1: "initial loss",
    2: "overfit a small sample",
    3: "learning-rate sweep",
    4: "coarse round",
    5: "refined round",
    6: "learning curves",
    7: "keep going",
}

BLOCKING_STEPS = (1, 2)
"""A net that fails one of these cannot learn; searching would only spend energy."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one step found. `data` holds plain JSON values; what is not finite becomes None."""

    step: int
    name: str
    passed: bool | None
    """None: the step could not be judged, or there is nothing to pass (a summary)."""
    verdict: str
    """One word."""
    reason: str
    """A sentence with the numbers behind the word."""
    consequence: str
    """What follows: the next step, or advice."""
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.step not in STEP_NAMES:
            raise ValueError(f"a recipe step is a number from 1 to 7, but got {self.step}")
        object.__setattr__(self, "data", plain(self.data))

    def to_mapping(self) -> dict[str, Any]:
        """Plain values that JSON takes."""
        return {
            "step": self.step,
            "name": self.name,
            "passed": self.passed,
            "verdict": self.verdict,
            "reason": self.reason,
            "consequence": self.consequence,
            "data": dict(self.data),
        }

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Read back what `to_mapping` wrote."""
        return cls(**{name: mapping[name] for name in cls.__dataclass_fields__ if name in mapping})


@dataclass(frozen=True)
class Recipe:
    """Verdicts in the order they were reached; steps 5 to 7 come once per refined round."""

    verdicts: tuple[Verdict, ...] = ()

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self.verdicts)

    def __len__(self) -> int:
        return len(self.verdicts)

    def adding(self, verdict: Verdict) -> Recipe:
        """Return a recipe with one more verdict."""
        return Recipe((*self.verdicts, verdict))

    def of_step(self, step: int) -> tuple[Verdict, ...]:
        """All verdicts of one step, oldest first."""
        return tuple(verdict for verdict in self.verdicts if verdict.step == step)

    @property
    def blocking(self) -> Verdict | None:
        """The first failure that makes a search pointless, or None."""
        for verdict in self.verdicts:
            if verdict.step in BLOCKING_STEPS and verdict.passed is False:
                return verdict
        return None

    def advice(self) -> str:
        """Why the search should not go on, and what to do: the text of `RecipeStopped`.

        Empty where nothing blocks.
        """
        failed = self.blocking
        if failed is None:
            return ""
        return (
            f"the recipe's step {failed.step} ({failed.name}) failed: {failed.reason}. "
            f"{failed.consequence}. To search all the same, set "
            "`recipe.continue_on_failure: true`"
        )

    def to_json(self) -> str:
        """One JSON list of verdicts."""
        return json.dumps([verdict.to_mapping() for verdict in self.verdicts], allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read back what `to_json` wrote."""
        return cls(tuple(Verdict.from_mapping(mapping) for mapping in json.loads(text)))


def verdict_of(step: int, **fields: Any) -> Verdict:
    """Build a verdict with its step's name filled in."""
    return Verdict(step=step, name=STEP_NAMES[step], **fields)


def plain(value: Any) -> Any:
    """Turn numpy scalars, tuples and mappings into JSON values; non-finite numbers into None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if hasattr(value, "item"):  # a numpy or torch scalar
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def short(value: float) -> str:
    """Write a number as a person would: four significant digits, no trailing zeros."""
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e")
