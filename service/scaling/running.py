"""Run a study, go on with it, and add to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from service.energy import Site
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.scaling.groups import base_config, make_groups
from service.scaling.procedure import StudyProcedure
from service.scaling.study_spec import StudySpec
from service.search.allowance import Allowance
from service.search.display import Display, Silent
from service.search.prepare import check_config, check_writable
from service.search.provenance import code_fingerprint, refuse_changes, versions
from service.search.seeds import check_seed
from service.search.session import Workers, run_session
from service.search.single_driver import refuse_second_driver
from trainers.data import load
from trainers.errors import ConfigError, LedgerError

DEFAULT_LEDGER = "isoflop.db"
STUDY_KIND = "study"
Report = Callable[[Ledger, str, Path], object]
"""Writes a study's report and tables into a folder."""


def run_study(
    spec: StudySpec | Mapping[str, Any] | str | Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    ledger: str | Path = DEFAULT_LEDGER,
    out: str | Path | None = None,
    seed: int | None = None,
    display: Display | None = None,
    report: Report | None = None,
    allowance: Allowance | None = None,
    folder: str | Path = "runs",
    owner: str | None = None,
    of_job: tuple[str, int] | None = None,
) -> str:
    """Run a study to its end; return its id.

    Args:
        spec: a `StudySpec`, its plain mapping, or the path of a YAML file.
        workers: processes to spread trials over; None: one per core. One needs no Ray.
        address: a Ray cluster to join.
        ledger: file or URL where everything is recorded.
        out: folder of report and tables; None: `<folder>/<study id>`.
        seed: seed of everything random; None: the spec's.
        display: who watches; None: nobody.
        report: writes the outputs once the trials have ended; None: only the ledger is written.
        allowance: who says how many of the workers it may hold at a time; None: all.
        folder: where studies have their folders.
        owner: the user of a service whose study it is; None: nobody's.
        of_job: id and attempt of the service's job that runs it.

    Raises:
        ConfigError: if the spec, the data or the site break a rule; nothing was started.

    """
    parsed = prepare_study(spec, folder if out is None else out)
    means = Workers(num=workers, address=address, allowance=allowance)
    means.check(parsed.as_search)
    check_seed(seed)
    with Ledger.open(str(ledger)) as opened:
        record = _create(opened, parsed, out, seed, folder, owner, of_job)
        shown = display or Silent()
        shown.note(f"study {record.search_id}, seed {record.seed}")
        run_recorded(opened, record, parsed, means, shown, report)
    return record.search_id


def resume_study(
    study_id: str,
    *,
    ledger: str | Path = DEFAULT_LEDGER,
    workers: int | None = None,
    address: str | None = None,
    accept_changes: bool = False,
    display: Display | None = None,
    report: Report | None = None,
    allowance: Allowance | None = None,
) -> str:
    """Go on with a study that was interrupted, stopped or killed; return its id.

    A finished study only has its outputs written again.

    Raises:
        ChangedError: code or versions changed and `accept_changes` is False.
        LedgerError: it is still being run by a living process, is unknown, or is a search.

    """
    with Ledger.open(str(ledger), create=False) as opened:
        record = study_record(opened, study_id)
        refuse_second_driver(opened, record)
        shown = display or Silent()
        if record.state == "finished":
            shown.note(f"`{study_id}` has finished; add sizes or budgets to go on with it")
            (report or _nothing)(opened, study_id, Path(record.out_dir or "."))
            return study_id
        refuse_changes(opened, record, accept_changes)
        spec = StudySpec.from_mapping(dict(record.spec))
        means = Workers(num=workers, address=address, allowance=allowance)
        run_recorded(opened, record, spec, means, shown, report)
    return study_id


def extend_study(
    study_id: str,
    *,
    sizes: Mapping[str, Iterable[Any]] | None = None,
    budgets_flops: Iterable[float] = (),
    seeds: Mapping[str, int] | None = None,
    budget: Mapping[str, float] | None = None,
    ledger: str | Path = DEFAULT_LEDGER,
    workers: int | None = None,
    address: str | None = None,
    accept_changes: bool = False,
    display: Display | None = None,
    report: Report | None = None,
    allowance: Allowance | None = None,
    of_job: tuple[str, int] | None = None,
) -> str:
    """Add sizes, budgets or seeds to a study and train what that makes missing; return its id.

    An extension that was cut off is gone on with by `resume`, or by asking for the same again.

    Args:
        study_id: a study that has ended.
        sizes: values to add to the paths of the spec's `sizes`.
        budgets_flops: budgets to add.
        seeds: new `seeds` (default, near_minimum).
        budget: new limits of time and energy for the whole study; without, none hold.
        ledger: file or URL that holds the study.
        workers: processes to spread trials over; None: one per core.
        address: a Ray cluster to join.
        accept_changes: train on under changed code or versions; it is recorded.
        display: who watches; None: nobody.
        report: writes the outputs once the trials have ended.
        allowance: who says how many of the workers it may hold at a time; None: all.
        of_job: id and attempt of the service's job that extends it.

    Raises:
        ConfigError: nothing was added, or the addition breaks a rule of the spec.
        ChangedError: code or versions changed and `accept_changes` is False.
        LedgerError: it is still being run by a living process, is unknown, or is a search.

    """
    with Ledger.open(str(ledger), create=False) as opened:
        record = study_record(opened, study_id)
        refuse_second_driver(opened, record)
        shown = display or Silent()
        asked = _plain_request(sizes, budgets_flops, seeds, budget)
        spec = StudySpec.from_mapping(dict(record.spec))
        cut_off = record.state != "finished" and _was_asked_last(opened, study_id, asked)
        if not cut_off:
            old, spec = spec, extended(spec, **asked)
            spec = prepare_study(spec, record.out_dir)
        refuse_changes(opened, record, accept_changes)
        if cut_off:
            shown.note(f"`{study_id}` was being extended by just this: going on with it")
        else:
            opened.reopen_search(
                study_id,
                "extension",
                [{"before": old.to_mapping(), "asked": asked}],
                if_state=record.state,
                of_job=of_job,
                spec=spec.to_mapping(),
            )
        means = Workers(num=workers, address=address, allowance=allowance)
        run_recorded(opened, opened.search(study_id), spec, means, shown, report)
    return study_id


def _plain_request(
    sizes: Mapping[str, Iterable[Any]] | None,
    budgets_flops: Iterable[float],
    seeds: Mapping[str, int] | None,
    budget: Mapping[str, float] | None,
) -> dict[str, Any]:
    """Return what `extend_study` was asked for as the ledger holds it, to compare requests by."""
    return {
        "sizes": {path: list(values) for path, values in (sizes or {}).items()},
        "budgets_flops": list(budgets_flops),
        "seeds": dict(seeds or {}),
        "budget": dict(budget or {}),
    }


def _was_asked_last(ledger: Ledger, study_id: str, asked: Mapping[str, Any]) -> bool:
    recorded = ledger.events(study_id, "extension")
    return bool(recorded) and recorded[-1].payload.get("asked") == asked


def study_record(ledger: Ledger, study_id: str) -> SearchRecord:
    """Return a study's record.

    Raises:
        LedgerError: there is none, or the id is a search's.

    """
    record = ledger.search(study_id)
    if record.kind != STUDY_KIND:
        raise LedgerError(
            f"`{study_id}` is a {record.kind}, and this needs a study; "
            f"look at it with: isoflop show {study_id}"
        )
    return record


def parse_study(spec: StudySpec | Mapping[str, Any] | str | Path) -> StudySpec:
    """Return a spec from any of its forms.

    Raises:
        ConfigError: it breaks a rule, or is none of them.

    """
    if isinstance(spec, StudySpec):
        return spec
    if isinstance(spec, str | Path):
        return StudySpec.from_yaml(spec)
    if isinstance(spec, Mapping):
        return StudySpec.from_mapping(spec)
    raise ConfigError(
        f"a study takes a StudySpec, a mapping or a file name, but got {type(spec).__name__}"
    )


def prepare_study(
    spec: StudySpec | Mapping[str, Any] | str | Path, out: str | Path | None
) -> StudySpec:
    """Check data, models, site and output folder before anything is started or written.

    Raises:
        ConfigError: which rule is broken, by what, and what to do.

    """
    parsed = parse_study(spec)
    if parsed.budget.kgco2e is not None:
        Site.from_environment().require_country("kgco2e")
    dataset = load(parsed.data)
    parsed = parsed.for_task(dataset.task)
    for size in parsed.size_values:
        for recipe in parsed.recipe_values:
            check_config(base_config(parsed, {**size, **recipe}), dataset)
    groups = make_groups(parsed)
    if not any(group.budgets for group in groups):
        budget, why = next(iter(groups[0].left_out.items()))
        raise ConfigError(
            "`limits` must allow a size at a budget, but leave all of them out, e.g. "
            f"{groups[0].name} at {budget:g} FLOP: {why}; change `budgets_flops` or `limits`"
        )
    check_writable(Path(out) if out is not None else Path("runs"))
    return parsed


def run_recorded(
    ledger: Ledger,
    record: SearchRecord,
    spec: StudySpec,
    workers: Workers,
    display: Display,
    report: Report | None,
) -> SearchRecord:
    """Train what is missing of a recorded study, and write its outputs."""
    return run_session(
        ledger,
        record,
        spec.as_search,
        workers,
        display,
        procedure=StudyProcedure(spec),
        write_outputs=report or _nothing,
    )


def _nothing(_ledger: Ledger, _study_id: str, _folder: Path) -> None:
    """Write no outputs."""


def _create(
    ledger: Ledger,
    spec: StudySpec,
    out: str | Path | None,
    seed: int | None,
    folder: str | Path,
    owner: str | None,
    of_job: tuple[str, int] | None,
) -> SearchRecord:
    """Record a new study, which names its folder unless the user did."""
    record = ledger.create_search(
        name=spec.name,
        kind=STUDY_KIND,
        project=spec.project,
        spec=spec.to_mapping(),
        seed=spec.seed if seed is None else seed,
        mode="deterministic",
        versions=versions(),
        code_fingerprint=code_fingerprint(),
        out_dir=None,
        owner=owner,
        of_job=of_job,
    )
    own = Path(folder) / record.search_id if out is None else Path(out)
    own.mkdir(parents=True, exist_ok=True)
    ledger.update_search(record.search_id, out_dir=str(own.resolve()))
    return ledger.search(record.search_id)


def extended(
    old: StudySpec,
    sizes: Mapping[str, Iterable[Any]] | None,
    budgets_flops: Iterable[float],
    seeds: Mapping[str, int] | None = None,
    budget: Mapping[str, float] | None = None,
) -> StudySpec:
    """Return a study's spec with more sizes, budgets or seeds; see `extend_study`.

    Raises:
        ConfigError: nothing was added, or the addition breaks a rule of the spec.

    """
    changes: dict[str, Any] = {"budget": dict(budget or {})}
    if sizes:
        unknown = [path for path in sizes if path not in old.sizes]
        if unknown:
            raise ConfigError(
                f"added sizes have the study's own paths {list(old.sizes)}, but got "
                f"`{unknown[0]}`; leave it out"
            )
        changes["sizes"] = {
            path: [*values, *sizes.get(path, ())] for path, values in old.sizes.items()
        }
    more = list(budgets_flops)
    if more:
        changes["budgets_flops"] = [*old.budgets_flops, *more]
        if old.verify is not None and old.verify.flops <= max(more):
            changes["verify"] = None
    if seeds:
        changes["seeds"] = dict(seeds)
    if len(changes) == 1:
        raise ConfigError(
            "extending a study needs sizes, budgets or seeds to add, but got none; "
            "give e.g. budgets_flops=[1e13]"
        )
    return old.with_values(**changes)
