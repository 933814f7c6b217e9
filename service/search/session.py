"""Open everything a search needs, run it, and leave the ledger true whatever happens."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from service import report
from service.energy import EnergySession, Site
from service.energy.cluster import meter_cluster
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.search.allowance import Allowance
from service.search.budget import BudgetKeeper
from service.search.context import SearchContext, Stopped
from service.search.display import Display
from service.search.executor import Executor, InlineExecutor
from service.search.interrupt import InterruptSwitch
from service.search.outside import outside_evidence
from service.search.procedure import run_procedure
from service.search.reserve import reserved_share
from service.search.samplers.process import SamplerProcess
from service.search.spec import SearchSpec
from trainers.errors import ConfigError, RecipeStopped


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How segments are run."""

    num: int | None = None
    """None: one per core that this process may use."""
    address: str | None = None
    """A Ray cluster to join; None: a local one, or none at all for a single worker."""
    allowance: Allowance | None = None
    """Who says how many of them the search may hold at a time; None: all."""

    def count(self, spec: SearchSpec) -> int:
        """Return how many workers a spec gets."""
        wanted = self.num or len(_usable_cores())
        return min(wanted, spec.resources.max_workers or wanted)

    def check(self, spec: SearchSpec) -> None:
        """Refuse what cannot run, before anything is recorded.

        Raises:
            ConfigError: their number is none, GPUs are asked for and there is none, or nothing
                listens at the address.
        """
        if self.num is not None and not (type(self.num) is int and self.num >= 1):
            raise ConfigError(
                f"`workers` must be a whole number >= 1, but got {self.num!r}; "
                "None takes one per core"
            )
        if self.address is not None:
            _check_address(self.address)
        elif spec.resources.gpus_per_worker > 0:
            _check_gpus(spec.resources.gpus_per_worker)

    def open(self, spec: SearchSpec) -> Executor:
        """Start the workers: inline for a single one, Ray otherwise."""
        num = self.count(spec)
        if num == 1 and self.address is None:
            return InlineExecutor()
        from service.search.executor.ray_cluster import WorkerShape
        from service.search.executor.ray_executor import RayExecutor

        shape = WorkerShape(
            cpus=spec.resources.cpus_per_worker, gpus=spec.resources.gpus_per_worker
        )
        at_first = None if self.allowance is None else self.allowance.workers(0)
        return RayExecutor(num, address=self.address, shape=shape, start_with=at_first)


def _check_address(address: str) -> None:
    from service.search.executor.ray_cluster import check_reachable

    try:
        check_reachable(address)
    except OSError as error:
        raise ConfigError(
            f"`--address` must be a running Ray cluster, but nothing answers at {address} "
            f"({error}); start one with `ray start --head`, or leave --address out"
        ) from error


def _check_gpus(gpus_per_worker: float) -> None:
    """Refuse to train on the processor what was to be trained on a GPU."""
    import torch

    if gpus_per_worker > 0 and not torch.cuda.is_available():
        raise ConfigError(
            f"`resources.gpus_per_worker` is {gpus_per_worker:g}, but torch sees no GPU here; "
            "install torch's CUDA build, join a cluster with `--address`, or set it to 0"
        )


def _usable_cores() -> range:
    if hasattr(os, "sched_getaffinity"):
        return range(len(os.sched_getaffinity(0)))
    return range(os.cpu_count() or 1)


def run_session(
    ledger: Ledger,
    record: SearchRecord,
    spec: SearchSpec,
    workers: Workers,
    display: Display,
    *,
    procedure: Callable[[SearchContext], str] = run_procedure,
    write_outputs: Callable[[Ledger, str, Path], object] | None = None,
) -> SearchRecord:
    """Run what is missing of a search, then write its outputs; return its final record.

    `procedure` and `write_outputs` are a search's own unless given: a study has others.

    Every way out is recorded: finished, interrupted, stopped, recipe_stopped or failed. A kill
    leaves the state `running`, which `resume` recognises because nobody is alive to hold it.
    """
    out_dir = Path(record.out_dir or ".")
    ledger.clear_stop(record.search_id)
    ledger.update_search(record.search_id, state="running", reason="", finished_unix_s=None)
    try:
        with _opened(ledger, record, spec, workers, display, out_dir) as context:
            ended = procedure(context)
        state, reason = "finished", ended
    except Stopped as stopped:
        state, reason = stopped.kind, stopped.reason
    except RecipeStopped as error:
        state, reason = "recipe_stopped", str(error)
    except (KeyboardInterrupt, SystemExit):
        ledger.update_search(
            record.search_id, state="interrupted", reason="stopped at once with a second Ctrl-C"
        )
        raise
    except BaseException as error:
        ledger.update_search(record.search_id, state="failed", reason=_first_line(error))
        raise
    ledger.update_search(
        record.search_id, state=state, reason=reason, finished_unix_s=_now(record, state)
    )
    (write_outputs or report.write_outputs)(ledger, record.search_id, out_dir)
    return ledger.search(record.search_id)


def _now(record: SearchRecord, state: str) -> float | None:
    return time.time() if state in ("finished", "recipe_stopped") else None


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"


@contextmanager
def _opened(
    ledger: Ledger,
    record: SearchRecord,
    spec: SearchSpec,
    workers: Workers,
    display: Display,
    out_dir: Path,
) -> Iterator[SearchContext]:
    """Open meter, workers, sampler and signal handling, and close them in reverse order."""
    site = Site.from_environment()
    if spec.budget.kgco2e is not None:
        site.require_country("kgco2e")
    with ExitStack() as stack:
        interrupt = stack.enter_context(InterruptSwitch().listening())
        energy = EnergySession.begin(ledger, record.search_id)
        stack.callback(energy.end)
        executor = workers.open(spec)
        stack.callback(executor.close)
        if workers.address is not None:
            energy.add_hosts(meter_cluster(ledger, record.search_id))
        samplers = stack.enter_context(SamplerProcess())
        evidence, notes = outside_evidence(spec)
        context = SearchContext(
            ledger=ledger,
            record=record,
            spec=spec,
            executor=executor,
            energy=energy,
            budget=_budget(record, spec, site),
            samplers=samplers,
            interrupt=interrupt,
            out_dir=out_dir,
            display=display,
            evidence=evidence,
            allowance=workers.allowance,
        )
        for note in (*spec.notes, *notes):
            context.warn(note)
        yield context
        ledger.add_event(
            record.search_id,
            "sampler_wait",
            {"waited_s": samplers.waited_s, "asking_s": samplers.asking_s},
        )


def _budget(record: SearchRecord, spec: SearchSpec, site: Site) -> BudgetKeeper:
    return BudgetKeeper(
        seconds=spec.budget.seconds,
        kwh=spec.budget.kwh,
        kgco2e=spec.budget.kgco2e,
        spent_s=record.seconds,
        pue=site.pue,
        co2e_kg=site.co2e_kg,
        reserve=reserved_share(spec),
    )
