"""Where the lecture errs: what is printed, what is right, and the test that shows it."""

from __future__ import annotations

from functools import cache
from typing import Annotated

from pydantic import Field, TypeAdapter

from search_spaces.lecture import FOLDER
from service.search.yaml_loading import read_yaml
from trainers.config import Section


class Erratum(Section):
    """One error or doubtful statement."""

    number: Annotated[int, Field(ge=1)]
    pages: tuple[int, ...]
    printed: str
    right: str
    tests: Annotated[tuple[str, ...], Field(min_length=1)]
    """`path::name` of tests that show it; for a fact about the world, that the book says so."""
    source: str = ""
    """Where a fact about the world comes from."""


@cache
def errata() -> tuple[Erratum, ...]:
    """Return all errata by number."""
    document = read_yaml(FOLDER / "errata.yaml")
    return tuple(TypeAdapter(list[Erratum]).validate_python(document.mapping["errata"]))
