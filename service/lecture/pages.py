"""The 68 pages as data, and which of them run."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Annotated, Any, Self

from pydantic import Field, TypeAdapter, model_validator

from search_spaces.lecture import FOLDER
from service.search.yaml_loading import read_yaml
from trainers.config import Section
from trainers.errors import ConfigError

NUM_PAGES = 68
Reference = Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]


class Claim(Section):
    """One thing that a page says, what the literature says, and the measure that answers."""

    what: str
    lecture: str
    published: str = ""
    """The published number with its source; empty where none is known."""
    ours: str = ""
    """Name of the measure in the page's findings; empty where nothing of ours compares."""
    differs: str = ""
    """How our task differs from the lecture's, where it does."""


class Page(Section):
    """One page: its titles, what it says, and what runs it."""

    page: Annotated[int, Field(ge=1, le=NUM_PAGES)]
    zh: str
    en: str
    about: str = ""
    """What the page carries, in a sentence or two."""
    specs: tuple[str, ...] = ()
    """Specs in `search_spaces/lecture`, run as ordinary searches."""
    draw: Reference | None = None
    """`module:function` that takes the specs' runs and returns `Findings`."""
    demo: Reference | None = None
    """`module:function` that takes its settings and returns `Findings`, where a spec cannot say it;
    beside specs, a second picture."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Values of the demo's settings on this page."""
    minutes: float = 0.0
    """About how long it takes on two cores."""
    long_run: str | None = None
    """A file of `search_spaces/lecture` with the arms of a table on real data, which takes far
    longer than a page may; see `service.lecture.long_run`."""
    claims: tuple[Claim, ...] = ()

    @model_validator(mode="after")
    def _specs_are_drawn(self) -> Self:
        if bool(self.specs) != (self.draw is not None):
            raise ValueError(
                f"`specs` need `draw`, and `draw` needs `specs`, but page {self.page} has specs "
                f"{list(self.specs)} and draw {self.draw}; give both or neither"
            )
        return self

    @property
    def runs(self) -> bool:
        """Whether there is something to run; the other pages are carried as text."""
        return self.draw is not None or self.demo is not None

    @property
    def name(self) -> str:
        """What the command line calls it, e.g. `p60`."""
        return f"p{self.page}"

    @property
    def runner(self) -> str:
        """What runs it, for people: spec files, a function, or both."""
        return ", ".join([*self.specs, *([self.demo] if self.demo else [])])


@cache
def pages() -> tuple[Page, ...]:
    """Return all pages in order."""
    document = read_yaml(FOLDER / "pages.yaml")
    return tuple(TypeAdapter(list[Page]).validate_python(document.mapping["pages"]))


def page_of(name: str) -> Page:
    """Return the page called `p60` or `60`.

    Raises:
        ConfigError: there is no such page, or nothing runs on it.

    """
    text = name.lower().removeprefix("p")
    if not text.isdigit() or not 1 <= int(text) <= NUM_PAGES:
        raise ConfigError(
            f"a page is p1 to p{NUM_PAGES}, but got {name!r}; see `isoflop lecture list`"
        )
    page = pages()[int(text) - 1]
    if not page.runs:
        near = min((p for p in pages() if p.runs), key=lambda p: abs(p.page - page.page))
        raise ConfigError(
            f"nothing runs on page {page.page} ({page.en}): it is carried as text; "
            f"the nearest page that runs is {near.name} ({near.en})"
        )
    return page


def resolve(reference: str) -> Any:
    """Import what a `module:function` names."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
