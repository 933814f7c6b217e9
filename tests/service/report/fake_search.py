"""A whole search written into a real ledger, with numbers from a closed form instead of training.

The error of a configuration falls exponentially to a floor that depends on its learning rate,
dropout and width; seeds add a little noise. So the best region is known to the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from service.ledger import Ledger
from service.ledger.records import RoundRecord, SegmentRecord, TrialRecord
from service.messages import Border, Usage
from service.recipe import (
    Curve,
    InitialFacts,
    LossCurve,
    RoundFacts,
    coarse_round,
    diagnose_round,
    initial_loss,
    judge_lr_sweep,
    judge_overfit,
    keep_going,
    refined_round,
)
from trainers.config import TrialConfig
from trainers.trial import EpochRow

LN_10 = math.log(10)
BASE = {"data": {"name": "digits"}, "model": {"kind": "mlp", "depth": 2}}
WIDTHS = (64, 128, 256)
SPACE_0 = {
    "optimizer.kind": ["adam", "momentum"],
    "optimizer.lr": {"log_uniform": [2.2e-5, 0.09], "limits": [1e-6, 1.0]},
    "optimizer.momentum": {"uniform": [0.8, 0.99], "when": {"optimizer.kind": "momentum"}},
    "model.dropout": {"uniform": [0.0, 0.6]},
    "model.width": [64, 128, 256],
}
SPACE_1 = {
    "optimizer.kind": ["adam"],
    "optimizer.lr": {"log_uniform": [6.1e-4, 0.021], "limits": [1e-6, 1.0]},
    "model.dropout": {"uniform": [0.0, 0.34]},
    "model.width": [128, 256],
}
REASONS_1 = [
    {
        "path": "optimizer.lr",
        "kind": "narrowed",
        "before": SPACE_0["optimizer.lr"],
        "after": SPACE_1["optimizer.lr"],
        "text": "the best 10 of 44 trials lie between 8.3e-4 and 0.017",
    },
    {
        "path": "model.dropout",
        "kind": "narrowed",
        "before": SPACE_0["model.dropout"],
        "after": SPACE_1["model.dropout"],
        "text": "the best 10 of 44 trials lie between 0.01 and 0.30",
    },
    {
        "path": "optimizer.kind",
        "kind": "dropped",
        "before": ["adam", "momentum"],
        "after": ["adam"],
        "text": "momentum loses to adam (Mann-Whitney p = 0.004, 21 against 23 trials)",
    },
    {
        "path": "model.width",
        "kind": "dropped",
        "before": [64, 128, 256],
        "after": [128, 256],
        "text": "64 loses to 256 (Mann-Whitney p = 0.02, 14 against 16 trials)",
    },
]


def val_error(params: dict[str, Any], epoch: int, noise: float) -> float:
    lr = params["optimizer.lr"]
    off = math.log10(lr) + 2.6
    floor = 0.018 + 0.05 * params["model.dropout"] ** 2 + 0.012 * off**2
    floor += {64: 0.012, 128: 0.003, 256: 0.0}[params["model.width"]]
    floor += 0.01 if params["optimizer.kind"] == "momentum" else 0.0
    speed = 1.1 * math.exp(-((off / 1.6) ** 2)) + 0.03
    return max(0.0, min(0.9, floor + (0.9 - floor) * math.exp(-speed * epoch) + noise))


@dataclass
class FakeAccounts:
    """The names of `EnergyAccounts` that a report reads; parts sum to the node."""

    per_trial: pd.DataFrame
    measured_share: float = 0.0
    wasted_kwh: float = 2e-6
    residual: float = 3e-16
    seconds: float = 74.0
    cpu_method: str = "estimated: cpu_load model"
    ram_method: str = "estimated: constant"
    gpu_method: str = "none"
    provenance: dict[str, Any] = field(default_factory=lambda: {"tool": "codecarbon 3.3.2"})

    @property
    def trials_kwh(self) -> float:
        return float(self.per_trial["active_kwh"].sum())

    padding_kwh: float = 1.2e-5
    overhead_kwh: float = 5.1e-5
    idle_kwh: float = 1.9e-4
    others_kwh: float = 3.1e-5
    gap_kwh: float = 1e-6

    @property
    def own_kwh(self) -> float:
        return self.trials_kwh + self.padding_kwh + self.overhead_kwh + self.idle_kwh

    @property
    def node_kwh(self) -> float:
        return self.own_kwh + self.others_kwh + self.gap_kwh

    def frame(self) -> pd.DataFrame:
        return pd.DataFrame({"window": [0, 0], "part": ["trials", "idle"], "kwh": [2e-6, 1e-6]})


@dataclass
class FakeSite:
    """The names of `Site` that a report reads."""

    country: str | None = "FRA"
    pue: float = 1.2

    def co2e_kg(self, kwh: float) -> float | None:
        return None if self.country is None else kwh * self.pue * 0.056

    def describe(self) -> str:
        return "56 g/kWh, FRA 2023, PUE 1.2"


class FakeSearch:
    """Writes the search, part by part; `build()` writes all of it."""

    def __init__(self, ledger: Ledger, seed: int = 0) -> None:
        self.ledger = ledger
        self.rng = np.random.default_rng(seed)
        spec = {
            **BASE,
            "kind": "search",
            "name": "demo",
            "space": SPACE_0,
            "objectives": {"val_error": "minimize"},
        }
        record = ledger.create_search(
            name="demo",
            kind="search",
            project="lab/digits",
            spec=spec,
            seed=seed,
            mode="deterministic",
            versions={"isoflop": "0.1.0", "torch": "2.13.0"},
            code_fingerprint="abc",
            out_dir=None,
        )
        self.id = record.search_id
        span = ledger.open_span(
            self.id, host="host", boot_id="b", pid=1, started_s=0.0, started_unix_s=1.764e9
        )
        ledger.extend_span(self.id, span.span, 74.0)
        self.next_id = 0
        self.rows: list[EpochRow] = []

    # --- pieces --------------------------------------------------------------------------------

    def config(self, params: dict[str, Any], epochs: int) -> TrialConfig:
        return TrialConfig.from_mapping(BASE).with_values({**params, "train.epochs": epochs})

    def sample(self, space: dict[str, Any]) -> dict[str, Any]:
        low, high = space["optimizer.lr"]["log_uniform"]
        params: dict[str, Any] = {
            "optimizer.kind": str(self.rng.choice(space["optimizer.kind"])),
            "optimizer.lr": float(np.exp(self.rng.uniform(np.log(low), np.log(high)))),
            "model.dropout": float(self.rng.uniform(*space["model.dropout"]["uniform"])),
            "model.width": int(self.rng.choice(space["model.width"])),
        }
        if params["optimizer.kind"] == "momentum":
            params["optimizer.momentum"] = float(self.rng.uniform(0.8, 0.99))
        return params

    def trial(self, params, epochs, *, round_, role="search", seed=None, done=None, state=None):
        """Add one trial with its curve; `done` epochs of `epochs`."""
        trial_id, self.next_id = self.next_id, self.next_id + 1
        done = epochs if done is None else done
        config, width = self.config(params, epochs), params["model.width"]
        rows = self._curve(trial_id, params, epochs, done, state)
        self.rows += rows
        state = state or ("complete" if done == epochs else "pruned")
        num_params = 64 * width + width + width * width + width + 10 * width + 10
        self.ledger.add_trials(
            self.id,
            [
                TrialRecord(
                    trial_id=trial_id,
                    round=round_,
                    batch=0,
                    role=role,
                    config=config.full_mapping(),
                    params=params,
                    config_id=config.fingerprint(),
                    seed=trial_id if seed is None else seed,
                    horizon_epochs=epochs,
                    epochs_done=done,
                    state=state,
                    reason="worst two thirds at epoch 4" if state == "pruned" else "",
                    metrics={k: v for k, v in rows[-1].metrics.items() if math.isfinite(v)},
                    num_params=num_params,
                    flops_per_epoch=6.0 * num_params * 1078,
                )
            ],
        )
        return trial_id

    def _curve(self, trial_id, params, epochs, done, state):
        noise = 0.0012 * float(self.rng.standard_normal())
        rows = []
        for epoch in range(1, done + 1):
            wobble = noise + 0.002 * float(self.rng.standard_normal()) / epoch
            error = val_error(params, epoch, wobble)
            loss = 3.2 * error + 0.02
            broken = state == "diverged" and epoch == done
            metrics = {
                "train_loss": math.nan if broken else 0.8 * loss,
                "val_loss": math.nan if broken else loss,
                "val_error": error,
                "lr": params["optimizer.lr"],
            }
            status = "diverged" if broken else "finished" if epoch == epochs else "running"
            busy = 2e-4 * params["model.width"] / 64
            rows.append(
                EpochRow(
                    trial_id=trial_id,
                    epoch=epoch,
                    metrics=metrics,
                    status=status,
                    reason="",
                    busy_s=busy,
                )
            )
        return rows

    def flush(self, round_: int) -> None:
        """Write the curves gathered since the last call as one segment."""
        ids = tuple(dict.fromkeys(row.trial_id for row in self.rows))
        segment = f"r{round_}b0s0"
        self.ledger.add_segments(
            self.id,
            [
                SegmentRecord(
                    segment_id=segment, round=round_, batch=0, rung=0, trial_ids=ids, stop_epoch=99
                )
            ],
        )
        attempt = self.ledger.begin_attempt(self.id, segment)
        usage = Usage(
            host="host",
            pid=1,
            started_s=0.0,
            ended_s=1.0,
            trial_busy_s=dict.fromkeys(ids, 0.01),
            padding_s=0.0,
        )
        border = Border(
            search_id=self.id,
            segment_id=segment,
            attempt=attempt,
            sequence=0,
            rows=self.rows,
            checkpoints=(),
            usage=(usage,),
        )
        assert self.ledger.apply(border)
        self.rows = []

    def round(self, number, kind, sampler, space, epochs, planned, reasons=(), why="", **outcome):
        self.ledger.put_round(
            self.id,
            RoundRecord(
                round=number,
                kind=kind,
                sampler=sampler,
                sampler_reason=why,
                space=space,
                reasons=list(reasons),
                epochs=epochs,
                planned_trials=planned,
                state="finished",
                outcome=outcome,
                started_unix_s=1e9 + number,
                finished_unix_s=1e9 + number + 1,
            ),
        )

    def verdict(self, verdict, round_=-1) -> None:
        self.ledger.add_event(self.id, "verdict", {**verdict.to_mapping(), "round": round_})

    # --- the whole -----------------------------------------------------------------------------

    def build(self) -> str:
        self.baseline()
        self.checks()
        self.coarse()
        self.refined()
        self.final()
        self.ledger.update_search(self.id, state="finished", reason="", finished_unix_s=1.764e9)
        return self.id

    def baseline(self, lr: float = 1e-3) -> None:
        params = {
            "optimizer.kind": "adam",
            "optimizer.lr": lr,
            "model.dropout": 0.5,
            "model.width": 128,
        }
        ids = [self.trial(params, 12, round_=-2, role="baseline", seed=900 + i) for i in range(3)]
        self.round(-2, "baseline", "given", {}, 12, 3)
        self.flush(-2)
        self.ledger.add_event(self.id, "baseline", {"trial_ids": ids, "mean": 0.05})

    def checks(self) -> None:
        facts = InitialFacts(loss=2.41, output_std=0.6, weight_grad_norm=0.8, num_rows=1000)
        self.verdict(initial_loss(facts, dummy_loss=LN_10, num_outputs=10, loss="cross_entropy"))
        curves = [LossCurve(lr=1e-3, losses=[1.9, 0.6, 0.1, 0.004])]
        self.verdict(judge_overfit(curves, dummy_loss=LN_10, num_rows=200))
        rates = np.geomspace(1e-6, 10, 24).tolist()
        sweep = [
            LossCurve(
                lr=lr,
                diverged=lr > 0.5,
                losses=[
                    math.nan
                    if lr > 0.5
                    else 2.41 - 2.2 * math.exp(-(((math.log10(lr) + 2.4) / 1.1) ** 2))
                ],
            )
            for lr in rates
        ]
        self.verdict(judge_lr_sweep(sweep, start_loss=2.41))
        for lr in rates:
            params = {
                "optimizer.kind": "adam",
                "optimizer.lr": lr,
                "model.dropout": 0.0,
                "model.width": 128,
            }
            self.trial(
                params, 5, round_=-1, role="sweep", seed=7, state="diverged" if lr > 0.5 else None
            )
        self.round(-1, "recipe", "grid", {}, 5, 24)
        self.flush(-1)

    def coarse(self, count: int = 48) -> None:
        ids = []
        for _ in range(count):
            params = self.sample(SPACE_0)
            hot = params["optimizer.lr"] > 0.06
            ids.append(self.trial(params, 3, round_=0, state="diverged" if hot else None))
        why = "random: every dimension is new, and random beats a grid where few matter"
        self.round(0, "search", "random", SPACE_0, 3, count, why=why)
        self.flush(0)
        best = self._best(ids)
        counts: dict[str, int] = {}
        for trial in self.ledger.trials(self.id, trial_ids=ids):
            counts[trial.state] = counts.get(trial.state, 0) + 1
        self.verdict(
            coarse_round(
                RoundFacts(
                    round=0,
                    epochs=3,
                    metric="val_error",
                    counts=counts,
                    best_value=best[0],
                    best_trial=best[1],
                    guess_value=0.9,
                )
            ),
            0,
        )

    def refined(self, count: int = 24) -> None:
        params = sorted(
            (self.sample(SPACE_1) for _ in range(count)), key=lambda p: val_error(p, 4, 0)
        )
        kept = {id(p) for p in params[: count // 3]}
        self.rng.shuffle(params)
        ids = [self.trial(p, 12, round_=1, done=12 if id(p) in kept else 4) for p in params]
        why = "TPE: 32 or more results to learn from, and at most 10 dimensions"
        self.round(1, "search", "tpe", SPACE_1, 12, count, REASONS_1, why=why)
        self.flush(1)
        best = self._best(ids)
        self.verdict(
            refined_round(
                RoundFacts(
                    round=1,
                    epochs=12,
                    metric="val_error",
                    best_value=best[0],
                    counts={"complete": count // 3, "pruned": count - count // 3},
                    best_trial=best[1],
                    previous_best=0.09,
                    previous_epochs=3,
                )
            ),
            1,
        )
        curves = [
            Curve(
                trial_id=i,
                train_losses=group["train_loss"].tolist(),
                val_losses=group["val_loss"].tolist(),
            )
            for i, group in self.ledger.curves_frame(self.id).groupby("trial_id")
            if i in ids and len(group) == 12
        ]
        self.verdict(diagnose_round(curves, dummy_loss=LN_10, searched=set(SPACE_1)), 1)
        self.verdict(keep_going([0.001, 0.002, 0.0005], threshold=0.005, metric="val_error"), 1)

    def final(self, count: int = 3, seeds: int = 3) -> None:
        searched = [t for t in self.ledger.trials(self.id, round=1) if t.state == "complete"]
        searched.sort(key=lambda t: t.metrics["val_error"])
        groups = []
        for trial in searched[:count]:
            ids = [
                self.trial(dict(trial.params), 12, round_=2, role="finalist", seed=900 + i)
                for i in range(seeds)
            ]
            groups.append(ids)
        self.round(2, "finalists", "given", {}, 12, count * seeds)
        self.flush(2)
        means = [np.mean([self._error(i) for i in ids]) for ids in groups]
        winner = groups[int(np.argmin(means))]
        looks = self.ledger.count_test_look(self.id, "winner of round 2")
        tests = [{"test_error": 0.031 + 0.002 * i, "test_loss": 0.1} for i in range(seeds)]
        first = self.ledger.trials(self.id, trial_ids=[winner[0]])[0]
        self.ledger.add_event(
            self.id,
            "winner",
            {
                "trial_ids": winner,
                "config_id": first.config_id,
                "test": {"test_error": 0.033},
                "tests": tests,
                "test_looks": looks,
                "round": 2,
                "mean": float(min(means)),
                "low": 0.0,
                "high": 1.0,
            },
        )

    def _error(self, trial_id: int) -> float:
        return self.ledger.trials(self.id, trial_ids=[trial_id])[0].metrics["val_error"]

    def _best(self, ids) -> tuple[float, int]:
        return min(
            (t.metrics["val_error"], t.trial_id)
            for t in self.ledger.trials(self.id, trial_ids=ids)
            if t.state == "complete"
        )


def accounts_of(ledger: Ledger, search_id: str, joules_per_epoch: float = 0.9) -> FakeAccounts:
    """Energy in proportion to width and epochs done."""
    rows = [
        {
            "trial_id": t.trial_id,
            "active_kwh": joules_per_epoch * t.epochs_done * t.params["model.width"] / 128 / 3.6e6,
        }
        for t in ledger.trials(search_id)
    ]
    table = pd.DataFrame(rows, columns=["trial_id", "active_kwh"])
    active_kwh = table["active_kwh"]
    return FakeAccounts(
        per_trial=table.assign(
            cpu=active_kwh, ram=0.0, gpu=0.0, unmeasured_kwh=0.0, cost_kwh=active_kwh
        )
    )
