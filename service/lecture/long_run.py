"""A page's table on real data: hours rather than minutes, run once, recorded, and shown with it."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from ruamel.yaml import YAML

from search_spaces.lecture import FOLDER
from service.energy import accounts
from service.lecture.pages import Page
from service.lecture.running import known_search, run_to_the_end
from service.ledger import Ledger
from service.search.display import Display, Silent
from service.search.objectives import t_interval
from service.search.prepare import prepare
from service.search.provenance import versions
from service.search.spec import SearchSpec
from service.search.yaml_loading import read_yaml
from trainers.config import Section, TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.models import build_model


class Arm(Section):
    """One entry of the table: a spec, and what this arm sets in it."""

    name: str
    """The row of the published table."""
    column: str
    spec: str
    """A file of `search_spaces/lecture`."""
    set: tuple[str, ...]
    """`key=value`, as `--set` takes them."""
    published_percent: float
    """Published test error."""

    @property
    def command(self) -> str:
        """The command that runs this arm alone."""
        sets = "".join(f" --set '{text}'" for text in self.set)
        return f"isoflop search search_spaces/lecture/{self.spec}{sets} --workers 1"


class ArmResult(Section):
    """What came out of an arm: the winner by validation, over the finalists' seeds."""

    name: str
    column: str
    published_percent: float
    test_percent: float
    """Mean test error over seeds."""
    low_percent: float
    high_percent: float
    """Ends of Student's 95 % interval over seeds."""
    tests_percent: tuple[float, ...]
    val_percent: float
    train_loss: float
    cosines: dict[str, float]
    """With the true gradient on the last epoch's first batch, `cos_backprop` and layer by layer;
    means over seeds. Empty for backprop itself."""
    chosen: dict[str, Any]
    """What the search chose."""
    num_params: int
    trials: int
    epochs: int
    """Trained in all: the budget, equal for all arms."""
    test_looks: int
    seconds: float
    energy_wh: float
    energy_method: str
    search_id: str
    command: str


class Recorded(Section):
    """A whole table with where and when it was made."""

    date: str
    machine: str
    versions: dict[str, str]
    command: str
    differs: str
    """How the task differs from the published one."""
    arms: tuple[ArmResult, ...]


@dataclass(frozen=True)
class LongRun:
    """A page's arms, and how they are run."""

    page: Page

    def __post_init__(self) -> None:
        """Refuse a page that has none.

        Raises:
            ConfigError: naming what the page has instead.

        """
        if self.page.long_run is None:
            raise ConfigError(
                f"`--long` runs a table on real data, but {self.page.name} has none; "
                f"leave it out, or use p34"
            )

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The table's entries, in the order in which they run."""
        return TypeAdapter(tuple[Arm, ...]).validate_python(self._file["arms"])

    @property
    def differs(self) -> str:
        """How the task differs from the published one."""
        return str(self._file["differs"])

    @property
    def _file(self) -> Mapping[str, Any]:
        return read_yaml(FOLDER / str(self.page.long_run)).mapping

    def run(self, out: Path, display: Display | None = None) -> Recorded:
        """Run the arms that `out`'s ledger does not have, one after the other, on one worker.

        Every arm is a search: interrupted, it starts again with the next call; finished, it is
        taken from the ledger. All specs are checked before the first starts.

        Raises:
            DataError: the data is not there; the message says how to get it.
            ConfigError: a spec breaks a rule.

        """
        shown = display or Silent()
        specs = [
            prepare(SearchSpec.from_yaml(FOLDER / arm.spec, list(arm.set)), out)
            for arm in self.arms
        ]
        out.mkdir(parents=True, exist_ok=True)
        ledger_url = str(out / "lecture.db")
        results = []
        for number, (arm, spec) in enumerate(zip(self.arms, specs, strict=True), start=1):
            shown.note(f"arm {number} of {len(specs)}: {arm.name}, {arm.column}")
            search_id = known_search(spec, ledger_url) or run_to_the_end(
                spec, ledger_url, out / "searches" / spec.name, shown
            )
            results.append(result_of(arm, search_id, ledger_url))
        return Recorded(
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            machine=_machine(),
            versions=versions(),
            command=f"isoflop lecture run {self.page.name} --long",
            differs=self.differs,
            arms=tuple(results),
        )


def recorded_table(page: Page) -> Recorded | None:
    """Return a page's table as it was recorded; None: it has none."""
    path = FOLDER / f"{page.name}-results.yaml"
    if page.long_run is None or not path.is_file():
        return None
    return Recorded.model_validate(read_yaml(path).mapping)


def result_of(arm: Arm, search_id: str, ledger_url: str) -> ArmResult:
    """Read what came out of an arm's search.

    Raises:
        ConfigError: the search has no winner, because every seed of its best trial diverged.

    """
    with Ledger.open(ledger_url) as ledger:
        record = ledger.search(search_id)
        winners = ledger.events(search_id, "winner")
        trials = ledger.trials(search_id)
        cost = accounts(ledger, search_id)
    if not winners:
        raise ConfigError(
            f"{arm.name} ({arm.column}) needs a configuration all of whose seeds finish, but "
            f"{search_id} found none; see `isoflop show {search_id} --ledger {ledger_url}`"
        )
    winner = winners[-1].payload
    seeds = [trial for trial in trials if trial.trial_id in winner["trial_ids"]]
    tests = [100 * test["test_error"] for test in winner["tests"]]
    interval = t_interval(tests)
    config = TrialConfig.model_validate(dict(seeds[0].config))
    dataset = load(config.data)
    model = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    return ArmResult(
        name=arm.name,
        column=arm.column,
        published_percent=arm.published_percent,
        test_percent=round(interval.mean, 3),
        low_percent=round(interval.low, 3),
        high_percent=round(interval.high, 3),
        tests_percent=tuple(round(test, 3) for test in tests),
        val_percent=round(100 * _mean(seeds, "val_error"), 3),
        train_loss=round(_mean(seeds, "train_loss"), 5),
        cosines={
            name: round(_mean(seeds, name), 3)
            for name in seeds[0].metrics
            if name.startswith("cos_backprop")
        },
        chosen={name: _rounded(value) for name, value in seeds[0].params.items()},
        num_params=sum(p.numel() for p in model.parameters()),
        trials=len(trials),
        epochs=sum(trial.epochs_done for trial in trials),
        test_looks=record.test_looks,
        seconds=round(cost.seconds, 1),
        energy_wh=round(1000 * cost.own_kwh, 4),
        energy_method=cost.cpu_method,
        search_id=search_id,
        command=arm.command,
    )


def write_recorded(recorded: Recorded, path: Path) -> None:
    """Write a table as YAML; in `search_spaces/lecture` it is what the page shows."""
    yaml = YAML()
    yaml.width = 100
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(recorded.model_dump(mode="json"), file)


def table_of(recorded: Recorded) -> list[Mapping[str, str]]:
    """Return the table for people, a row per arm, errors in percent."""
    return [
        {
            "method": arm.name,
            "column": arm.column,
            "published test error": f"{arm.published_percent:.2f} %",
            "ours": f"{arm.test_percent:.2f} %",
            "95 % interval over seeds": f"{arm.low_percent:.2f} to {arm.high_percent:.2f} %",
            "validation": f"{arm.val_percent:.2f} %",
            "cosine with backprop": _cosine(arm.cosines),
            "lr": f"{arm.chosen['optimizer.lr']:.3g}",
            "energy": f"{arm.energy_wh:.2f} Wh",
            "minutes": f"{arm.seconds / 60:.1f}",
        }
        for arm in recorded.arms
    ]


def _cosine(cosines: Mapping[str, float]) -> str:
    """Return the layers' cosines from the first hidden layer to the last."""
    layers = [value for name, value in cosines.items() if name != "cos_backprop"]
    return " ".join(f"{value:.2f}" for value in layers) or "1"


def _mean(trials: Sequence[Any], name: str) -> float:
    return math.fsum(trial.metrics[name] for trial in trials) / len(trials)


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _machine() -> str:
    """Return what ran it, as far as the system says."""
    info = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip()
        for line in (info.read_text(encoding="utf-8").splitlines() if info.is_file() else [])
        if line.startswith("model name")
    ]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, one worker"
