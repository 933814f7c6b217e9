"""What a search would do and cost, before it is started.

Time and energy come from a short measurement on this machine: the reference configuration is
trained for a moment and its rate is scaled to every round by counted FLOPs. They are estimates
and are labelled so.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.energy import Site
from service.recipe.overfit import plan_overfit
from service.report.numbers import duration, energy, mass
from service.search.checks import centre_config, plan_sweeps, reference_config
from service.search.packer import pack_sizes
from service.search.proposals import cost_of
from service.search.session import Workers
from service.search.spec import RoundSpec, SearchSpec
from service.search.spec_plan import further_round
from trainers.config import TrialConfig
from trainers.data import load
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import make_plan
from trainers.trial import Trial

PROBE_TRIALS = 8
PROBE_EPOCHS = 2
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
                duration(row.seconds),
                row.reason,
            )
        total = (
            f"{sum(row.trials for row in self.rounds)} trials on {self.workers} workers: about "
            f"{duration(self.seconds)} of training and {energy(self.kwh)} "
            f"(estimated at {ASSUMED_WATTS_PER_WORKER:g} W per worker), {self.co2}; "
            "starting workers and writing the report come on top"
        )
        return Group(table, Text("\n".join(filter(None, (total, self.further)))))


def estimate(spec: SearchSpec, *, workers: int | None = None) -> Estimate:
    """Estimate trials, epochs, FLOPs, time and energy of a spec's whole plan."""
    spec = spec.for_task(load(spec.base.data).task)
    num_workers = Workers(num=workers).count(spec)
    centre = centre_config(spec)
    flops_per_s = measured_rate(centre, spec.resources.device)
    rate = flops_per_s * num_workers
    rows = _checks(spec, rate) + [
        _round(spec, number, round_, cost_of(centre).flops_per_epoch, rate)
        for number, round_ in enumerate(spec.plan())
    ]
    rows += _finalists(spec, centre, _longest(spec), rate)
    seconds = sum(row.seconds for row in rows)
    kwh = seconds * num_workers * ASSUMED_WATTS_PER_WORKER / 3.6e6
    site = Site.from_environment()
    co2e_kg = site.co2e_kg(kwh)
    co2 = site.describe() if co2e_kg is None else f"{mass(co2e_kg)} CO2e"
    return Estimate(tuple(rows), num_workers, seconds, kwh, co2, flops_per_s, _further(spec))


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


def _checks(spec: SearchSpec, rate: float) -> list[RoundEstimate]:
    """Return the lines of the recipe's steps 2 and 3."""
    if not spec.recipe.checks:
        return []
    reference = reference_config(spec)
    num_rows = len(load(spec.base.data).x_train)
    overfit = plan_overfit(reference, num_rows)
    rows = [_line("step 2", overfit.configs, rate, reason="overfit a small sample")]
    for sweep in plan_sweeps(spec, reference, num_rows):
        reason = f"learning-rate sweep, {sweep.name}"
        rows.append(_line("step 3", sweep.plan.configs, rate, reason=reason))
    return rows


def _finalists(
    spec: SearchSpec, centre: TrialConfig, epochs: int, rate: float
) -> list[RoundEstimate]:
    """Return the lines of the baseline and of the finalists, both with the finalists' seeds."""
    seeds = spec.finalists.seeds
    rows = []
    baseline = spec.baseline_config()
    if baseline is not None:
        config = baseline.with_values({"train.epochs": epochs})
        reason = f"what every gain is measured against, {seeds} seeds"
        rows.append(_line("baseline", [config] * seeds, rate, reason=reason))
    if spec.finalists.trials:
        config = centre.with_values({"train.epochs": epochs})
        reason = f"the best {spec.finalists.trials}, {seeds} seeds each"
        configs = [config] * (spec.finalists.trials * seeds)
        rows.append(_line("finalists", configs, rate, reason=reason))
    return rows


def _longest(spec: SearchSpec) -> int:
    return max(round_.epochs or spec.base.train.epochs for round_ in spec.plan())


def _line(name: str, configs: Sequence[TrialConfig], rate: float, *, reason: str) -> RoundEstimate:
    """Return the line of trials that are all trained to their end."""
    epochs = configs[0].train.epochs
    flops = sum(cost_of(config).flops_per_epoch * config.train.epochs for config in configs)
    return RoundEstimate(
        name=name,
        sampler="",
        trials=len(configs),
        packs=len(pack_sizes(len(configs))),
        epochs=epochs,
        trial_epochs=float(len(configs) * epochs),
        flops=flops,
        seconds=flops / rate,
        reason=reason,
    )


def _round(
    spec: SearchSpec, number: int, round_: RoundSpec, flops_per_epoch: float, rate: float
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
        seconds=flops / rate,
        reason=round_.reason,
    )


def measured_rate(config: TrialConfig, device: str) -> float:
    """Train a few trials of one configuration; return one worker's FLOPs per second."""
    trials = [Trial(trial_id=i, config=config, seed=i) for i in range(PROBE_TRIALS)]
    plan = make_plan(trials, load(config.data), device)
    started_s = time.perf_counter()
    epochs = min(PROBE_EPOCHS, config.train.epochs)
    trained = trials[: max(2, plan.fuse_width)]  # more lanes than run at once tell nothing new
    train_pack(trained, None, epochs, plan=plan, device=plan.device)
    seconds = time.perf_counter() - started_s
    return len(trained) * epochs * cost_of(config).flops_per_epoch / seconds
