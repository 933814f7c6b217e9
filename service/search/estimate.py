"""What a search would do and cost, before it is started.

Time and energy come from a short measurement on this machine: the reference configuration is
trained for a moment and its rate is scaled to every round by counted FLOPs. They are estimates
and are labelled so.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.energy import Site
from service.search.packer import pack_sizes
from service.search.proposals import cost_of
from service.search.session import Workers
from service.search.spec import RoundSpec, SearchSpec
from service.search.spec_plan import further_round
from trainers.config import TrialConfig
from trainers.data import load
from trainers.lanes.pack import train_pack
from trainers.trial import Trial

PROBE_TRIALS = 8
ASSUMED_WATTS_PER_WORKER = 10.0
"""Without a sensor there is no better guess for one busy core; said beside the figure."""
EARLY_STOP_SHARE = 0.4
"""Share of its epochs that a round with halving trains, about, at eta 3."""


@dataclass(frozen=True)
class RoundEstimate:
    """One line of the plan."""

    name: str
    sampler: str
    trials: int
    packs: int
    epochs: int
    trial_epochs: float
    flops: float
    seconds: float
    reason: str


@dataclass(frozen=True)
class Estimate:
    """The whole plan."""

    rounds: tuple[RoundEstimate, ...]
    workers: int
    seconds: float
    kwh: float
    co2: str
    flops_per_s: float
    further: str = ""
    """What step 7 of the recipe may add to it, in words."""

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        return asdict(self)

    def render(self) -> RenderableType:
        """Return the plan as a table for people."""
        table = Table("round", "sampler", "trials", "epochs", "FLOP", "time", "why")
        for row in self.rounds:
            table.add_row(
                row.name,
                row.sampler,
                str(row.trials),
                str(row.epochs),
                f"{row.flops:.2g}",
                f"{row.seconds:.0f} s",
                row.reason,
            )
        total = (
            f"{sum(row.trials for row in self.rounds)} trials in {len(self.rounds)} rounds on "
            f"{self.workers} workers: about {self.seconds:.0f} s and {self.kwh * 1000:.2g} Wh "
            f"(estimated at {ASSUMED_WATTS_PER_WORKER:g} W per worker); CO2 {self.co2}"
        )
        return Group(table, Text("\n".join(filter(None, (total, self.further)))))


def estimate(spec: SearchSpec, *, workers: int | None = None) -> Estimate:
    """Estimate trials, epochs, FLOPs, time and energy of a spec's whole plan."""
    spec = spec.for_task(load(spec.base.data).task)
    num_workers = Workers(num=workers).count(spec)
    centre = spec.configure(
        spec.space.from_unit([0.5] * len(spec.space)) if len(spec.space) else {}
    )
    flops_per_s = _measured_rate(centre)
    per_epoch = cost_of(centre).flops_per_epoch
    rows = [
        _round(spec, number, round_, per_epoch, flops_per_s * num_workers)
        for number, round_ in enumerate(spec.plan())
    ]
    if spec.finalists.trials:
        longest = max(row.epochs for row in rows)
        num = spec.finalists.trials * spec.finalists.seeds
        last = RoundSpec.model_validate({"trials": num, "epochs": longest})
        reason = f"the best {spec.finalists.trials}, {spec.finalists.seeds} seeds each"
        final = _round(spec, len(rows), last, per_epoch, flops_per_s * num_workers)
        rows.append(
            RoundEstimate(**{**asdict(final), "name": "finalists", "sampler": "", "reason": reason})
        )
    seconds = sum(row.seconds for row in rows)
    kwh = seconds * num_workers * ASSUMED_WATTS_PER_WORKER / 3.6e6
    site = Site.from_environment()
    co2e_kg = site.co2e_kg(kwh)
    co2 = site.describe() if co2e_kg is None else f"{co2e_kg * 1000:.2g} gCO2e"
    further = _further(spec)
    return Estimate(tuple(rows), num_workers, seconds, kwh, co2, flops_per_s, further)


def _further(spec: SearchSpec) -> str:
    """Say what the recipe's step 7 may add to the plan; nothing where it cannot."""
    done = [(round_.trials or 0) * round_.seeds for round_ in spec.plan()]
    added, _ = further_round(spec, done)
    if added is None:
        return ""
    return (
        f"then refined rounds of {added.trials} trials while a round's gain is worth it "
        f"(step 7: {spec.recipe.stop_gain:.0%}), at most {spec.max_rounds} rounds in all"
    )


def _round(
    spec: SearchSpec, number: int, round_: RoundSpec, flops_per_epoch: float, flops_per_s: float
) -> RoundEstimate:
    configs = round_.trials or len(spec.space.grid())
    epochs = round_.epochs or spec.base.train.epochs
    trials = configs * round_.seeds
    trial_epochs = trials * epochs * (EARLY_STOP_SHARE if round_.halving else 1.0)
    flops = trial_epochs * flops_per_epoch
    return RoundEstimate(
        name=str(number),
        sampler=str(round_.sampler),
        trials=trials,
        packs=len(pack_sizes(trials)),
        epochs=epochs,
        trial_epochs=trial_epochs,
        flops=flops,
        seconds=flops / flops_per_s,
        reason=round_.reason,
    )


def _measured_rate(config: TrialConfig) -> float:
    """Train a few lanes of the reference for one epoch; return FLOPs per second of one worker."""
    trials = [Trial(trial_id=i, config=config, seed=i) for i in range(PROBE_TRIALS)]
    started_s = time.perf_counter()
    train_pack(trials, None, 1)
    seconds = time.perf_counter() - started_s
    return PROBE_TRIALS * cost_of(config).flops_per_epoch / seconds
