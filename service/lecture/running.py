"""Run one page: its specs as ordinary searches, and its demo under the meter."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from pydantic import BaseModel, ValidationError

from search_spaces.lecture import FOLDER
from service.api import run_search
from service.energy import EnergySession, accounts
from service.lecture.findings import Findings, SearchRun
from service.lecture.pages import Page, resolve
from service.ledger import Ledger
from service.search.display import Silent
from service.search.prepare import prepare
from service.search.provenance import code_fingerprint, versions
from service.search.spec import SearchSpec
from service.search.yaml_loading import parse_value
from trainers.config import explain
from trainers.data import load
from trainers.errors import ConfigError, RecipeStopped, nearest

if TYPE_CHECKING:
    from service.search.display import Display

LEDGER_NAME = "lecture.db"
DIFFERS = "how the task differs"
METERED_FOR_S = 1.5
"""A demo is repeated for so long, as the meter takes half a second to start; its energy and its
time are those of all times over their number."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A page run one way: as the lecture's page stands here, or with the user's changes."""

    findings: Findings
    energy_kwh: float
    seconds: float
    search_ids: tuple[str, ...]
    reused: bool
    """Whether the searches were in the ledger already; their energy is that of the first time."""


@dataclass(frozen=True, kw_only=True)
class PageOutcome:
    """Everything that a page's picture, tables and text are made of."""

    page: Page
    default: Variant
    yours: Variant | None
    overrides: tuple[str, ...]
    energy_method: str

    @property
    def command(self) -> str:
        """The command that makes this page again."""
        sets = "".join(f" --set {text}" for text in self.overrides)
        return f"isoflop lecture run {self.page.name}{sets}"


def run_page(
    page: Page, out: Path, overrides: Sequence[str] = (), display: Display | None = None
) -> PageOutcome:
    """Run a page, and once more with the user's changes where there are any.

    Args:
        page: one that `runs`.
        out: folder of the ledger and of the searches' reports.
        overrides: `key=value` as given to `--set`: paths of the page's spec (`optimizer.lr`), or
            settings of its demo (`rounds`). Of a page that has both, only what they touch runs
            once more.
        display: who watches the searches; None: nobody.

    Raises:
        ConfigError: an override that the page's spec or demo does not have; nothing was started.

    """
    prepared = [_prepared(page, (), out, display)]
    if overrides:
        prepared.append(_prepared(page, tuple(overrides), out, display))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"`--out` must be a folder that can be made, but {error}") from None
    variants = [start() for start in prepared]
    with Ledger.open(str(out / LEDGER_NAME)) as ledger:
        method = accounts(ledger, variants[0].search_ids[0]).cpu_method
    return PageOutcome(
        page=page,
        default=variants[0],
        yours=variants[1] if overrides else None,
        overrides=tuple(overrides),
        energy_method=method,
    )


def _prepared(
    page: Page, overrides: tuple[str, ...], out: Path, display: Display | None
) -> Callable[[], Variant]:
    """Check the overrides of the page's parts now; the returned call runs what they touch."""
    of_demo = tuple(text for text in overrides if _is_for_demo(page, text))
    of_specs = tuple(text for text in overrides if text not in of_demo)
    starts = []
    if page.specs and (of_specs or not overrides):
        starts.append(_searches(page, of_specs, out, display))
    if page.demo and (of_demo or not overrides):
        starts.append(_demo(page, of_demo, out, display))
    return lambda: _joined([start() for start in starts], page)


def _is_for_demo(page: Page, override: str) -> bool:
    """Whether an override is a setting; a spec's paths have a dot, and settings have none."""
    return not page.specs or (page.demo is not None and "." not in override.partition("=")[0])


def _joined(variants: Sequence[Variant], page: Page) -> Variant:
    """Return a page's parts as one: the searches' picture first, the demo's beside it."""
    first, *others = variants
    if not others:
        return first
    (demo,) = others
    name = (page.demo or "").rpartition(":")[2]
    measures = {**first.findings.measures, **demo.findings.measures}
    return Variant(
        findings=replace(first.findings, measures=measures, also={name: demo.findings}),
        energy_kwh=first.energy_kwh + demo.energy_kwh,
        seconds=first.seconds + demo.seconds,
        search_ids=(*first.search_ids, *demo.search_ids),
        reused=first.reused and demo.reused,
    )


def _searches(
    page: Page, overrides: tuple[str, ...], out: Path, display: Display | None
) -> Callable[[], Variant]:
    """Read and check the page's specs now; the returned call runs them."""
    assert page.draw is not None
    specs = [prepare(SearchSpec.from_yaml(FOLDER / name, overrides), out) for name in page.specs]
    for spec in specs:
        _check_drawable(page, spec)
    draw: Callable[[Sequence[SearchRun]], Findings] = resolve(page.draw)

    def start() -> Variant:
        began_s = time.monotonic()
        ledger_url = str(out / LEDGER_NAME)
        found = [known_search(spec, ledger_url) for spec in specs]
        ids = [
            known
            or run_to_the_end(
                spec, ledger_url, out / "searches" / _folder(spec, overrides), display
            )
            for spec, known in zip(specs, found, strict=True)
        ]
        runs = [_read(spec, name, ledger_url) for spec, name in zip(specs, ids, strict=True)]
        findings = draw(runs)
        return Variant(
            findings=findings,
            energy_kwh=_energy_kwh(ledger_url, ids),
            seconds=time.monotonic() - began_s,
            search_ids=tuple(ids),
            reused=all(found),
        )

    return start


def _check_drawable(page: Page, spec: SearchSpec) -> None:
    """Refuse data whose errors no picture of the lecture can show."""
    task = load(spec.base.data).task
    if task != "classification":
        raise ConfigError(
            f"{page.name} draws errors of classes, but `{spec.base.data.name}` is {task}; "
            "use data of classes, e.g. digits"
        )


def run_to_the_end(spec: SearchSpec, ledger_url: str, out: Path, display: Display | None) -> str:
    """Run a search to its end and return its id; what ends it early ends the page."""
    result = run_search(spec, workers=1, ledger=ledger_url, out=out, display=display or Silent())
    record = result.record
    if record.state == "recipe_stopped":
        raise RecipeStopped(record.reason)
    if record.state != "finished":
        raise KeyboardInterrupt(record.reason)
    return result.search_id


def _folder(spec: SearchSpec, overrides: Sequence[str]) -> str:
    return spec.name if not overrides else f"{spec.name}-yours"


def known_search(spec: SearchSpec, ledger_url: str) -> str | None:
    """Return a finished search of the same spec and code, if the ledger has one."""
    with Ledger.open(ledger_url) as ledger:
        for record in ledger.searches():
            same = dict(record.spec) == spec.to_mapping()
            if same and record.state == "finished" and record.code_fingerprint == _code():
                return record.search_id
    return None


def _code() -> str:
    return code_fingerprint()


def _read(spec: SearchSpec, search_id: str, ledger_url: str) -> SearchRun:
    """Return a search's round trials and their curves, params beside the metrics."""
    with Ledger.open(ledger_url) as ledger:
        trials = ledger.trials_frame(search_id)
        curves = ledger.curves_frame(search_id)
    trials = trials[trials["role"] == "search"].reset_index(drop=True)
    params = [name for name in trials.columns if name.startswith("param.")]
    return SearchRun(
        spec=spec,
        search_id=search_id,
        ledger_url=ledger_url,
        trials=trials,
        curves=curves.merge(trials[["trial_id", *params]], on="trial_id"),
    )


def _demo(
    page: Page, overrides: tuple[str, ...], out: Path, display: Display | None
) -> Callable[[], Variant]:
    """Check the settings now; the returned call runs the demo under the meter."""
    assert page.demo is not None
    demo: Callable[[BaseModel], Findings] = resolve(page.demo)
    kind: type[BaseModel] = get_type_hints(demo)["settings"]
    settings = _settings(kind, page, overrides)

    def start() -> Variant:
        if display is not None:
            display.note(f"{page.name}: {page.en}")
        ledger_url = str(out / LEDGER_NAME)
        with Ledger.open(ledger_url) as ledger:
            record = ledger.create_search(
                name=f"lecture-{page.name}",
                kind="lecture",
                project="",
                spec={"demo": page.demo, "settings": settings.model_dump(mode="json")},
                seed=0,
                mode="deterministic",
                versions=versions(),
                code_fingerprint=_code(),
                out_dir=None,
            )
            session = EnergySession.begin(ledger, record.search_id)
            times, seconds, began_s = 0, 0.0, time.monotonic()
            try:
                while seconds < METERED_FOR_S:
                    findings = demo(settings)
                    times, seconds = times + 1, time.monotonic() - began_s
            finally:
                session.end()
            ledger.update_search(record.search_id, state="finished")
        return Variant(
            findings=findings,
            energy_kwh=_energy_kwh(ledger_url, [record.search_id]) / times,
            seconds=seconds / times,
            search_ids=(record.search_id,),
            reused=False,
        )

    return start


def _settings(kind: type[BaseModel], page: Page, overrides: Sequence[str]) -> BaseModel:
    values: dict[str, Any] = dict(page.settings)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or key not in kind.model_fields:
            raise ConfigError(
                f"`--set` on {page.name} takes key=value, but got {text!r}"
                f"{nearest(key, list(kind.model_fields))}; its settings: "
                f"{', '.join(kind.model_fields) or 'none'}"
            )
        values[key] = parse_value(value)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, kind)) from None


def _energy_kwh(ledger_url: str, search_ids: Sequence[str]) -> float:
    with Ledger.open(ledger_url) as ledger:
        return sum(accounts(ledger, name).own_kwh for name in search_ids)


def comparison(outcome: PageOutcome) -> list[Mapping[str, str]]:
    """Return the page's claims and measures: lecture, published, default run, and yours.

    Where a claim is in percent, our error, accuracy or share beside it is as well.
    """
    default = dict(outcome.default.findings.measures)
    yours = dict(outcome.yours.findings.measures) if outcome.yours is not None else {}
    rows: list[Mapping[str, str]] = []
    for claim in outcome.page.claims:
        percent = claim.ours.startswith(_SHARES) and bool(
            _PERCENT.search(f"{claim.lecture} {claim.published}")
        )
        rows.append(
            {
                "what": claim.what,
                "lecture": claim.lecture,
                "published": claim.published or "-",
                "default run": _shown(default.pop(claim.ours, None), percent),
                "yours": _shown(yours.pop(claim.ours, None), percent),
                DIFFERS: claim.differs,
            }
        )
    for name in dict.fromkeys([*default, *yours]):
        rows.append(
            {
                "what": name,
                "lecture": "-",
                "published": "-",
                "default run": _shown(default.get(name)),
                "yours": _shown(yours.get(name)),
                DIFFERS: "",
            }
        )
    if outcome.yours is None:
        return [{key: value for key, value in row.items() if key != "yours"} for row in rows]
    return rows


_SHARES = ("validation error", "validation accuracy", "share ")
"""How measures begin that are shares of one."""
_PERCENT = re.compile(r"\d %")


def _shown(value: float | str | None, percent: bool = False) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "not finite"
    return f"{100 * value:.2f} %" if percent else f"{value:.4g}"
