"""The Python API: `run_search`, `resume`, `extend`, `stop`, and the result they return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces import Space
from service import report
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.search.allowance import Allowance
from service.search.display import Display, Silent
from service.search.extension import is_unfinished, plan_extension
from service.search.prepare import prepare
from service.search.provenance import code_fingerprint, refuse_changes, versions
from service.search.seeds import check_seed
from service.search.session import Workers, run_session
from service.search.single_driver import refuse_second_driver
from service.search.spec import SearchSpec
from trainers.errors import ConfigError, LedgerError

if TYPE_CHECKING:
    import pandas as pd

    from service.energy import EnergyAccounts
    from trainers.predictor import Predictor

DEFAULT_LEDGER = "isoflop.db"


@dataclass(frozen=True)
class Best:
    """The winning configuration."""

    config: Mapping[str, Any]
    """Nested sections, as `best.yaml` holds them."""
    metrics: Mapping[str, float]
    weights: Path | None

    def load(self) -> Predictor:
        """Return the trained model with its scaler; `model.predict(X)` takes raw rows.

        Raises:
            LedgerError: if no finalist was trained, so that there are no weights.

        """
        from trainers.predictor import Predictor

        if self.weights is None or not self.weights.exists():
            raise LedgerError(
                "this search has no trained winner, because it ended before its finalists were "
                "trained; `isoflop list` says how it ended and what goes on from there"
            )
        return Predictor.load(self.weights)


@dataclass(frozen=True)
class SearchResult:
    """A search as the ledger has it; every call reads the present state."""

    search_id: str
    ledger_url: str

    def _open(self) -> Ledger:
        return Ledger.open(self.ledger_url, create=False)

    @property
    def record(self) -> SearchRecord:
        """State, seed, versions and times."""
        with self._open() as ledger:
            return ledger.search(self.search_id)

    @property
    def verdict(self) -> str:
        """The answer in one sentence: value with interval, gain over the baseline, noise."""
        with self._open() as ledger:
            return report.verdict_sentence(ledger, self.search_id)

    @property
    def has_finished_trial(self) -> bool:
        """Whether any trial reached its end."""
        with self._open() as ledger:
            return bool(ledger.trials(self.search_id, states=["complete"]))

    @property
    def out_dir(self) -> Path:
        """The folder of the report and the tables."""
        return Path(self.record.out_dir or ".")

    @property
    def report_path(self) -> Path | None:
        """The report, if it was written."""
        path = self.out_dir / "report.html"
        return path if path.exists() else None

    @property
    def best(self) -> Best:
        """The winner; before the finalists, the best finished trial."""
        best = self.summary().get("best") or {}
        with self._open() as ledger:
            winners = ledger.events(self.search_id, "winner")
        return Best(
            config=best.get("config", {}),
            metrics=best.get("metrics", {}),
            weights=Path(winners[-1].payload["weights"]) if winners else None,
        )

    def summary(self) -> dict[str, Any]:
        """Return what `summary.json` holds."""
        return report.load_summary(self.out_dir)

    def trials(self) -> pd.DataFrame:
        """One row per trial, with params, metrics, state and reason."""
        with self._open() as ledger:
            return ledger.trials_frame(self.search_id)

    def curves(self) -> pd.DataFrame:
        """One row per trial and epoch."""
        with self._open() as ledger:
            return ledger.curves_frame(self.search_id)

    def rounds(self) -> pd.DataFrame:
        """One row per round, with space, sampler and reasons."""
        with self._open() as ledger:
            return ledger.rounds_frame(self.search_id)

    def energy(self) -> EnergyAccounts:
        """Return the accounts in kWh: node, own, trials, padding, overhead, idle, others, gap."""
        from service.energy import accounts

        with self._open() as ledger:
            return accounts(ledger, self.search_id)

    def warnings(self) -> list[str]:
        """Return what went otherwise than asked, e.g. a round that ended early, and why."""
        with self._open() as ledger:
            return [event.payload["text"] for event in ledger.events(self.search_id, "warning")]

    def extend(self, **options: Any) -> SearchResult:
        """Go on after the end; the options are those of `service.extend`."""
        return extend(self.search_id, ledger=self.ledger_url, **options)


def run_search(
    spec: SearchSpec | Mapping[str, Any] | str | Path,
    *,
    workers: int | None = None,
    address: str | None = None,
    ledger: str | Path = DEFAULT_LEDGER,
    out: str | Path | None = None,
    seed: int | None = None,
    display: Display | None = None,
    allowance: Allowance | None = None,
    folder: str | Path = "runs",
    owner: str | None = None,
    of_job: tuple[str, int] | None = None,
) -> SearchResult:
    """Run a search to its end.

    Args:
        spec: a `SearchSpec`, its plain mapping, or the path of a YAML file.
        workers: processes to spread trials over; None: one per core. One needs no Ray.
        address: a Ray cluster to join.
        ledger: file or URL where everything is recorded.
        out: folder of report and tables; None: `<folder>/<search id>`.
        seed: seed of everything random; None: the spec's.
        display: who watches; None: nobody.
        allowance: who says how many of the workers it may hold at a time; None: all.
        folder: where searches have their folders.
        owner: the user of a service whose search it is; None: nobody's.
        of_job: id and attempt of the service's job that runs it.

    Raises:
        ConfigError: if the spec, the data or the site break a rule; nothing was started.

    """
    parsed = prepare(_parsed(spec), folder if out is None else out)
    means = Workers(num=workers, address=address, allowance=allowance)
    means.check(parsed)
    check_seed(seed)
    with Ledger.open(str(ledger)) as opened:
        record = _create(opened, parsed, out, seed, folder, owner, of_job)
        shown = display or Silent()
        _announce(shown, record, parsed)
        run_session(opened, record, parsed, means, shown)
    return SearchResult(record.search_id, str(ledger))


def _create(
    ledger: Ledger,
    spec: SearchSpec,
    out: str | Path | None,
    seed: int | None,
    folder: str | Path,
    owner: str | None,
    of_job: tuple[str, int] | None,
) -> SearchRecord:
    """Record a new search, which names its folder unless the user did."""
    record = ledger.create_search(
        name=spec.name,
        kind="search",
        project=spec.project,
        spec=spec.to_mapping(),
        seed=spec.seed if seed is None else seed,
        mode=spec.mode,
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


def _announce(display: Display, record: SearchRecord, spec: SearchSpec) -> None:
    plan = spec.plan()
    rounds = "1 round" if len(plan) == 1 else f"{len(plan)} rounds"
    display.note(f"search {record.search_id}: {rounds}, seed {record.seed}")
    for number, round_ in enumerate(plan):
        display.note(
            f"plan: round {number} of {round_.trials} trials, {round_.epochs} epochs "
            f"({round_.reason})"
        )


def open_search(search_id: str, *, ledger: str | Path = DEFAULT_LEDGER) -> SearchResult:
    """Return a recorded search.

    Raises:
        LedgerError: if there is no such search.

    """
    result = SearchResult(search_id, str(ledger))
    result.record  # noqa: B018 - raises for an unknown id
    return result


def resume(
    search_id: str,
    *,
    ledger: str | Path = DEFAULT_LEDGER,
    workers: int | None = None,
    address: str | None = None,
    accept_changes: bool = False,
    display: Display | None = None,
    allowance: Allowance | None = None,
) -> SearchResult:
    """Go on with a search or a scaling study that was interrupted, stopped or killed.

    Raises:
        ChangedError: code or versions changed and `accept_changes` is False.
        LedgerError: it is still being run by a living process, or unknown.

    """
    with Ledger.open(str(ledger), create=False) as opened:
        record = _not_deleted(opened.search(search_id))
        if record.kind == "study":
            from service.scaling.running import resume_study
            from service.scaling.study import write_recorded

            resume_study(
                search_id,
                ledger=ledger,
                workers=workers,
                address=address,
                accept_changes=accept_changes,
                display=display,
                report=write_recorded,
                allowance=allowance,
            )
            return SearchResult(search_id, str(ledger))
        refuse_second_driver(opened, record)
        shown = display or Silent()
        if record.state == "finished":
            shown.note(f"`{search_id}` has finished; extend it with: isoflop extend {search_id}")
            report.write_outputs(opened, search_id, Path(record.out_dir or "."))
            return SearchResult(search_id, str(ledger))
        refuse_changes(opened, record, accept_changes)
        spec = SearchSpec.from_mapping(dict(record.spec))
        if opened.events(search_id, "extension"):
            spec = _without_limits(spec)
        means = Workers(num=workers, address=address, allowance=allowance)
        run_session(opened, record, spec, means, shown)
    return SearchResult(search_id, str(ledger))


def extend(
    search_id: str,
    *,
    trials: int | None = None,
    epochs: int | None = None,
    space: Space | Mapping[str, Any] | str | Path | None = None,
    ledger: str | Path = DEFAULT_LEDGER,
    workers: int | None = None,
    address: str | None = None,
    accept_changes: bool = False,
    display: Display | None = None,
    allowance: Allowance | None = None,
    of_job: tuple[str, int] | None = None,
) -> SearchResult:
    """Add to a search that ended: another round, another space, or more epochs for the best.

    An extension that was cut off is gone on with by `resume`, or by asking for the same again.
    `of_job` is the id and attempt of the service's job that extends.

    Raises:
        ConfigError: neither trials nor epochs were given, or the space breaks a rule.
        ChangedError: code or versions changed and `accept_changes` is False.
        LedgerError: the search has not ended yet, or is unknown.

    """
    with Ledger.open(str(ledger), create=False) as opened:
        record = _not_deleted(opened.search(search_id))
        if record.kind == "study":
            raise LedgerError(
                f"`{search_id}` is a study, which sizes and budgets are added to; "
                f"extend it with: isoflop scale extend {search_id}"
            )
        refuse_second_driver(opened, record)
        spec = SearchSpec.from_mapping(dict(record.spec))
        extension = plan_extension(opened, record, spec, trials, epochs, space)
        cut_off = record.state != "finished"
        if cut_off and not is_unfinished(opened, search_id, extension):
            raise LedgerError(
                f"only a finished search can be extended, but `{search_id}` is {record.state}; "
                f"finish it first: isoflop resume {search_id}"
            )
        refuse_changes(opened, record, accept_changes)
        shown = display or Silent()
        if cut_off:
            shown.note(f"`{search_id}` was being extended by just this: going on with it")
        else:
            opened.reopen_search(
                search_id, "extension", [extension], if_state="finished", of_job=of_job
            )
        means = Workers(num=workers, address=address, allowance=allowance)
        run_session(opened, record, _without_limits(spec), means, shown)
    return SearchResult(search_id, str(ledger))


def _without_limits(spec: SearchSpec) -> SearchSpec:
    """Lift the limits that ended a search, for what was added since; its plan stays as it was."""
    kept = type(spec.budget)(trials=spec.budget.trials)
    return spec.model_copy(update={"budget": kept})


def stop(search_id: str, *, ledger: str | Path = DEFAULT_LEDGER) -> str:
    """Ask a running search to finish its epoch, save and end; return what will happen."""
    with Ledger.open(str(ledger), create=False) as opened:
        record = opened.search(search_id)
        if record.state != "running":
            return f"`{search_id}` is not running (it is {record.state})"
        opened.request_stop(search_id, "with `isoflop stop`")
        return f"`{search_id}` will finish its epoch, save and stop; go on with: " + resume_line(
            record
        )


def resume_line(record: SearchRecord) -> str:
    """Return the command that goes on with a search."""
    return f"isoflop resume {record.search_id}"


def _not_deleted(record: SearchRecord) -> SearchRecord:
    """Refuse to go on with a search of which only the energy is known."""
    if record.state == "deleted":
        raise LedgerError(
            f"`{record.search_id}` was deleted: only what it used is still known; search again"
        )
    return record


def _parsed(spec: SearchSpec | Mapping[str, Any] | str | Path) -> SearchSpec:
    if isinstance(spec, SearchSpec):
        return spec
    if isinstance(spec, str | Path):
        return SearchSpec.from_yaml(spec)
    if isinstance(spec, Mapping):
        return SearchSpec.from_mapping(spec)
    raise ConfigError(
        f"a search takes a SearchSpec, a mapping or a file name, but got {type(spec).__name__}"
    )
