"""Every technique of the lecture: its pages, what implements it, and the test that shows it."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from search_spaces.lecture import FOLDER
from service.search.yaml_loading import read_yaml
from trainers.config import Section


class Row(Section):
    """One of the lecture's 99 techniques and facts."""

    number: Annotated[int, Field(ge=1)]
    pages: tuple[int, ...]
    technique: str
    state: Literal["implemented", "context", "open"]
    """context: carried as text or numbers, nothing to implement. open: not there yet."""
    where: tuple[str, ...] = ()
    """Modules, specs or keys of a spec."""
    tests: tuple[str, ...] = ()
    """`path::name`."""


@cache
def rows() -> tuple[Row, ...]:
    """Return all rows by number."""
    document = read_yaml(FOLDER / "rows.yaml")
    return tuple(TypeAdapter(list[Row]).validate_python(document.mapping["rows"]))
