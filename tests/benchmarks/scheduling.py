"""What scheduling and recording cost per trial, and how long TPE is waited for.

Grid and random run over training that takes no time (`trivial_training`). Counted is the round:
from its first record to its last, with sampling, FLOP counts, ledger, packing and messages. The
report is timed apart. Each size runs in a process of its own, whose memory is read at the start
and at the end of the round.

TPE runs over real training (the speed work, width 128, two workers): what matters there is how
long workers stand still.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from search_spaces import choice, log_uniform, uniform
from service import SearchSpec, run_search
from service.ledger import Ledger
from service.search.context import SearchContext
from service.search.display import Silent
from service.search.provenance import code_fingerprint, versions
from service.search.session import run_session
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.results import median_and_range, save
from tests.benchmarks.rivals.isoflop_search import spec_of
from tests.benchmarks.trivial_training import TrivialWorkers
from tests.benchmarks.workload import NUM_WORKERS, Work

MIB = 2**20
SIZES = (1_000, 10_000)
REMARKS = (
    "ms per trial: the whole round of trivial trials divided by their number; aim: under 2 ms, "
    "flat from 1,000 to 10,000.",
    "processor ms: the driver's own seconds, which neighbours on the machine do not stretch.",
    "memory: resident size of the driver at the start and at the end of the round.",
    "report s: writing tables, charts and report.html at the end, once per search.",
    "TPE, asking: time spent inside the sampler, in its own process, as a share of the round's "
    "wall time; standing still: share of worker seconds without a segment, for any reason "
    "(start-up and the last batch's end included), an upper bound of waiting; aim: under 10 %.",
)


@dataclass
class Watch(Silent):
    """Reads memory, and adds up how long workers stand still."""

    rss: list[int] = field(default_factory=list)
    idle_worker_s: float = 0.0
    began_s: float = 0.0
    last_s: float = 0.0
    cpu_s: list[float] = field(default_factory=list)
    """Processor seconds of this process, at the round's first word and at each tick."""

    def note(self, text: str) -> None:
        if not self.cpu_s:
            self.cpu_s.append(time.process_time())

    def tick(self, context: SearchContext) -> None:
        now_s = time.perf_counter()
        if not self.rss:
            self.began_s = self.last_s = now_s
        self.idle_worker_s += context.executor.idle_workers * (now_s - self.last_s)
        self.last_s = now_s
        self.cpu_s.append(time.process_time())
        self.rss.append(psutil.Process().memory_info().rss)

    @property
    def idle_share(self) -> float:
        """Of all worker seconds between the first and the last tick."""
        return self.idle_worker_s / max(NUM_WORKERS * (self.last_s - self.began_s), 1e-9)


def trivial_spec(sampler: str, num_trials: int) -> SearchSpec:
    """Return a spec of one round of one-epoch trials; the grid has exactly `num_trials` points."""
    if sampler == "grid":
        steps = [10] * (len(str(num_trials)) - 1)
        paths = ("optimizer.lr", "optimizer.momentum", "optimizer.weight_decay", "model.dropout")
        space: Mapping[str, Any] = {
            path: choice(*(0.001 + 0.08 * i for i in range(count)))
            for path, count in zip(paths, steps, strict=False)
        }
    else:
        space = {
            "optimizer.lr": log_uniform(1e-4, 1.0),
            "optimizer.momentum": uniform(0.0, 0.95),
            "optimizer.weight_decay": log_uniform(1e-6, 1e-2),
            "model.dropout": uniform(0.0, 0.6),
        }
    return SearchSpec(
        name=f"trivial-{sampler}",
        data="digits",
        model={"kind": "mlp", "depth": 1, "width": 8},
        train={"batch_size": 64, "epochs": 1},
        optimizer={"kind": "momentum"},
        space=space,
        rounds=[{"sampler": sampler, "trials": num_trials, "epochs": 1}],
        finalists={"trials": 0},
        recipe={"checks": False, "max_rounds": 1},
    )


def run_trivial(sampler: str, num_trials: int) -> dict[str, Any]:
    """Run one search of trivial trials in this process."""
    spec = trivial_spec(sampler, num_trials)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        with Ledger.open(str(Path(folder) / "isoflop.db")) as ledger:
            record = ledger.create_search(
                name=spec.name,
                kind="search",
                project="",
                spec=spec.to_mapping(),
                seed=0,
                mode="deterministic",
                versions=versions(),
                code_fingerprint=code_fingerprint(),
                out_dir=folder,
            )
            began_s = time.perf_counter()
            run_session(ledger, record, spec, TrivialWorkers(num=1), watch)
            total_s = time.perf_counter() - began_s
            (round_,) = ledger.rounds(record.search_id)
            assert round_.finished_unix_s is not None
            assert round_.started_unix_s is not None
            seconds = round_.finished_unix_s - round_.started_unix_s
            trials = ledger.trials(record.search_id, states=["complete"])
        assert len(trials) == num_trials
    return {
        "sampler": sampler,
        "trials": num_trials,
        "round_s": seconds,
        "ms_per_trial": 1000 * seconds / num_trials,
        "cpu_ms_per_trial": 1000 * (watch.cpu_s[-1] - watch.cpu_s[0]) / num_trials,
        "rest_s": total_s - seconds,
        "rss_start_mib": watch.rss[0] / MIB,
        "rss_end_mib": watch.rss[-1] / MIB,
    }


def run_tpe(num_trials: int, sampler: str = "tpe", width: int = 128) -> dict[str, Any]:
    """Run a real search over two workers and see how long they stand still."""
    work = Work(num_trials=num_trials, width=width)
    spec = spec_of(work).to_mapping()
    spec["rounds"] = [{"sampler": sampler, "trials": num_trials, "epochs": work.epochs}]
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        ledger_url = str(Path(folder) / "isoflop.db")
        result = run_search(spec, workers=NUM_WORKERS, ledger=ledger_url, out=folder, display=watch)
        with Ledger.open(ledger_url) as ledger:
            (waits,) = ledger.events(result.search_id, "sampler_wait")
    wall_s = watch.last_s - watch.began_s
    return {
        "sampler": sampler,
        "trials": num_trials,
        "round_s": wall_s,
        "asking_share": waits.payload["asking_s"] / wall_s,
        "waited_share": waits.payload["waited_s"] / wall_s,
        "idle_share": watch.idle_share,
    }


def in_own_process(function: str, *arguments: Any) -> dict[str, Any]:
    """Call a function of this module in a fresh process and return what it returned."""
    code = (
        "import json; from tests.benchmarks import scheduling; "
        f"print(json.dumps(scheduling.{function}(*json.loads({json.dumps(arguments)!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{function}{arguments} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print("  ", found, flush=True)
    return found


def main(repeats: int = 3, sizes: Sequence[int] = SIZES, tpe_trials: int = 256) -> Path:
    """Measure all of it, interleaved, and write the tables."""
    machine = describe_machine()
    turns = [(sampler, size) for size in sizes for sampler in ("grid", "random")]
    trivial = [in_own_process("run_trivial", *turn) for _ in range(repeats) for turn in turns]
    samplers = ("random", "tpe")
    real = [
        in_own_process("run_tpe", tpe_trials, sampler)
        for _ in range(repeats)
        for sampler in samplers
    ]
    tables = {
        "Trivial trials, one worker": [
            _trivial_row([r for r in trivial if (r["sampler"], r["trials"]) == turn])
            for turn in turns
        ],
        f"{tpe_trials} real trials, width 128, two workers": [
            _real_row([r for r in real if r["sampler"] == sampler]) for sampler in samplers
        ],
    }
    return save("scheduling", machine, tables, [*trivial, *real], REMARKS)


def _trivial_row(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    middle = {
        key: statistics.median(run[key] for run in runs) for key in runs[0] if key != "sampler"
    }
    return {
        "sampler": runs[0]["sampler"],
        "trials": runs[0]["trials"],
        "ms per trial": median_and_range([run["ms_per_trial"] for run in runs]),
        "processor ms per trial": median_and_range([run["cpu_ms_per_trial"] for run in runs]),
        "driver MiB at start": round(middle["rss_start_mib"]),
        "at end": round(middle["rss_end_mib"]),
        "start and report s": median_and_range([run["rest_s"] for run in runs]),
    }


def _real_row(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    def percent(key: str) -> str:
        return median_and_range([100 * run[key] for run in runs])

    return {
        "sampler": runs[0]["sampler"],
        "round s": median_and_range([run["round_s"] for run in runs]),
        "asking, % of wall": percent("asking_share"),
        "driver blocked, %": percent("waited_share"),
        "workers standing still, %": percent("idle_share"),
    }
