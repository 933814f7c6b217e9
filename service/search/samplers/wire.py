"""Messages between a search and its sampler's process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.search.samplers.told import Asked
from trainers.errors import IsoflopError


@dataclass(frozen=True)
class Request:
    """One batch to ask for: the arguments of `ask`."""

    number: int
    args: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The batch, or the error."""

    number: int
    asked: Asked | None
    error: IsoflopError | None
