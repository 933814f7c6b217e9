"""Lottery tickets: small subnets that, from their own initial weights, train as well as the net.

Frankle & Carbin, "The lottery ticket hypothesis" (ICLR 2019), iterative magnitude pruning with
rewinding; lecture, p. 58. Train; cut the smallest of the weights that remain, layer by layer; put
the others back to what they were; again.

Each round trains four arms in packs of all seeds: the ticket; the same mask over newly drawn
weights; a random mask with as many weights in each layer over the ticket's own; and, in round 0,
the dense net. Packing never changes a result, so arms of different rounds compare lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.lanes.cutting import cut_by_count
from trainers.lanes.flat import FlatEntry, FlatLayout
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import make_plan
from trainers.lanes.state import BEST, PARAMS, PRUNED, SLOT, LaneState
from trainers.models import build_model
from trainers.trial import EpochReport, ExecutionPlan, Trial

Arm = Literal["dense", "ticket", "reinitialised", "random_mask"]
CONTROLS: tuple[Arm, ...] = ("reinitialised", "random_mask")
_NEW_WEIGHTS = 1_000_003
"""Added to a seed, gives the one that new weights are drawn from; the data's order stays."""


@dataclass(frozen=True, kw_only=True)
class TicketRow:
    """One arm of one round and seed."""

    round: int
    """Cuts so far; 0 is the dense net."""
    arm: Arm
    seed: int
    remaining: float
    """Share of all weights that is left."""
    early_stop_epoch: int
    """The epoch of the lowest validation loss: the paper's measure of speed."""
    metrics: dict[str, float]
    """Of the last epoch."""
    status: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Tickets:
    """What became of all arms, and the last masks."""

    rows: tuple[TicketRow, ...]
    states: dict[int, LaneState]
    """Each seed's last ticket, trained."""


def find_tickets(
    config: TrialConfig,
    dataset: Dataset,
    *,
    rounds: int = 10,
    rate: float = 0.2,
    head_rate: float = 0.1,
    seeds: Sequence[int] = (0, 1, 2),
    rewind_epoch: int = 0,
    controls: Sequence[Arm] = CONTROLS,
    on_round: Callable[[int], None] | None = None,
) -> Tickets:
    """Prune iteratively with rewinding, and train the control arms beside the tickets.

    Args:
        config: What is trained; its own section `pruning` must be off.
        dataset: Its data.
        rounds: Cuts; after n of them (1 - rate)^n of a layer is left.
        rate: Share of a layer's remaining weights that one cut takes (the paper: 0.2).
        head_rate: The same of the last layer (the paper: 0.1).
        seeds: Lanes of every pack.
        rewind_epoch: What weights go back to: their values after so many epochs (0: initial).
        controls: Arms beside the ticket.
        on_round: Called with the number of each round that is done.

    Raises:
        ConfigError: for rates outside (0, 1), too late a rewind, or pruning by the config as well.

    """
    _check(config, rounds, rate, head_rate, rewind_epoch, seeds)
    lanes = [
        Trial(trial_id=k, config=config, seed=seeds[k % len(seeds)])
        for k in range(len(seeds) * (1 + len(controls)))
    ]
    trials = lanes[: len(seeds)]
    layout = FlatLayout.of(build_model(config.model, dataset.input_shape, dataset.num_outputs))
    training = _Training(dataset=dataset, plan=make_plan(lanes, dataset), layout=layout)
    weights = [entry.name for entry in layout.entries if entry.decays]
    rates = {**dict.fromkeys(weights, rate), weights[-1]: head_rate}
    fresh = training.run(_reseeded(trials), None, 0)
    rewound = training.run(trials, None, rewind_epoch)
    trained = training.run(trials, rewound, config.train.epochs)
    rows = training.rows("dense", 0, trials, trained)
    if on_round is not None:
        on_round(0)
    cuts = [torch.zeros(layout.size, dtype=torch.bool) for _ in trials]
    for round_ in range(1, rounds + 1):
        cuts = [_cut_more(layout, *pair, rates) for pair in zip(trained, cuts, strict=True)]
        random = [
            _shuffled(layout, cut, 1000 * trial.seed + round_)
            for cut, trial in zip(cuts, trials, strict=True)
        ]
        starts: dict[Arm, list[LaneState]] = {
            "ticket": list(map(_masked, rewound, cuts)),
            "reinitialised": list(map(_masked, fresh, cuts)),
            "random_mask": list(map(_masked, rewound, random)),
        }
        arms: list[Arm] = ["ticket", *controls]
        trained, more = _train_arms(training, arms, round_, trials, starts)
        rows += more
        if on_round is not None:
            on_round(round_)
    return Tickets(rows=tuple(rows), states=dict(zip(seeds, trained, strict=True)))


def _check(
    config: TrialConfig,
    rounds: int,
    rate: float,
    head_rate: float,
    rewind_epoch: int,
    seeds: Sequence[int],
) -> None:
    if rounds < 1 or not seeds:
        raise ConfigError(
            f"tickets need at least 1 round and 1 seed, but got {rounds} and {len(seeds)}; try "
            "10 rounds of 3 seeds"
        )
    for name, value in (("rate", rate), ("head_rate", head_rate)):
        if not 0 < value < 1:
            raise ConfigError(f"`{name}` must be between 0 and 1, but got {value}; try 0.2")
    if not 0 <= rewind_epoch < config.train.epochs:
        raise ConfigError(
            "`rewind_epoch` must come before the last epoch, `train.epochs`, but got "
            f"{rewind_epoch} of {config.train.epochs}; try 0"
        )
    if config.pruning.sparsity or config.learning_rule.kind == "cma_es":
        raise ConfigError(
            "tickets cut weights themselves and keep them at 0, so they need `pruning.sparsity` 0 "
            f"and no cma_es, but got {config.pruning.sparsity} and "
            f"{config.learning_rule.kind}; change those"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Training:
    """What all packs of the experiment share, and each lane's lowest validation loss so far."""

    dataset: Dataset
    plan: ExecutionPlan
    layout: FlatLayout
    lowest: dict[int, tuple[float, int]] = field(default_factory=dict)
    """Trial id -> (validation loss, epoch); cleared by whoever starts lanes anew."""

    def run(
        self, trials: Sequence[Trial], start: Sequence[LaneState] | None, stop_epoch: int
    ) -> list[LaneState]:
        """Train one pack."""
        result = train_pack(
            trials, start, stop_epoch, self._watch, dataset=self.dataset, plan=self.plan
        )
        return list(result.states)

    def rows(
        self, arm: Arm, round_: int, trials: Sequence[Trial], states: Sequence[LaneState]
    ) -> list[TicketRow]:
        """Describe lanes that were trained."""
        return [
            TicketRow(
                round=round_,
                arm=arm,
                seed=trial.seed,
                remaining=1 - int(_cut_of(state).sum()) / max(self.layout.num_decaying, 1),
                early_stop_epoch=self.lowest.get(trial.trial_id, (0.0, state.epoch))[1],
                metrics=dict(state.metrics),
                status=state.status,
            )
            for trial, state in zip(trials, states, strict=True)
        ]

    def _watch(self, report: EpochReport) -> None:
        for row in report.rows:
            now = (row.metrics["val_loss"], row.epoch)
            self.lowest[row.trial_id] = min(self.lowest.get(row.trial_id, now), now)


def _reseeded(trials: Sequence[Trial]) -> list[Trial]:
    """Return trials that draw other weights, under the same ids."""
    return [replace(trial, seed=trial.seed + _NEW_WEIGHTS) for trial in trials]


def _train_arms(
    training: _Training,
    arms: Sequence[Arm],
    round_: int,
    trials: Sequence[Trial],
    starts: dict[Arm, list[LaneState]],
) -> tuple[list[LaneState], list[TicketRow]]:
    """Train all arms of a round as lanes of one pack; return the tickets' states, and all rows."""
    num = len(trials)
    lanes, states = [], []
    for place, arm in enumerate(arms):
        for trial, state in zip(trials, starts[arm], strict=True):
            trial_id = place * num + trial.trial_id
            lanes.append(replace(trial, trial_id=trial_id))
            states.append(replace(state, trial_id=trial_id))
    training.lowest.clear()
    trained = training.run(lanes, states, lanes[0].config.train.epochs)
    rows: list[TicketRow] = []
    for place, arm in enumerate(arms):
        span = slice(place * num, (place + 1) * num)
        rows += training.rows(arm, round_, lanes[span], trained[span])
    return trained[:num], rows


def _cut_of(state: LaneState) -> Tensor:
    return state.tensors.get(PRUNED, torch.zeros(1, dtype=torch.bool))


def _cut_more(layout: FlatLayout, state: LaneState, cut: Tensor, rates: dict[str, float]) -> Tensor:
    """Return the mask [P] after one more cut by magnitude: what was cut stays cut."""
    trained = state.tensors[PARAMS].abs()
    # What training itself made 0 must not be taken for what is already cut.
    magnitudes = trained.clamp(min=torch.finfo(trained.dtype).tiny).masked_fill(cut, 0.0)

    def count(entry: FlatEntry) -> int:
        already = int(cut[entry.offset : entry.offset + entry.size].sum())
        return already + round(rates[entry.name] * (entry.size - already))

    return cut_by_count(layout, magnitudes, count)


def _masked(state: LaneState, cut: Tensor) -> LaneState:
    """Return a state whose weights under the mask, and what moved them, are 0."""
    tensors = {name: rows for name, rows in state.tensors.items() if not name.startswith(BEST)}
    for name in [name for name in tensors if name == PARAMS or name.startswith(SLOT)]:
        tensors[name] = tensors[name].masked_fill(cut, 0.0)
    counters = {k: v for k, v in state.counters.items() if not k.startswith(("best_", "early_"))}
    return replace(state, tensors={**tensors, PRUNED: cut}, counters=counters)


def _shuffled(layout: FlatLayout, cut: Tensor, seed: int) -> Tensor:
    """Return a mask with as many weights cut in each layer, at random places."""
    generator = torch.Generator().manual_seed(seed)
    shuffled = cut.clone()
    for entry in layout.entries:
        span = slice(entry.offset, entry.offset + entry.size)
        shuffled[span] = cut[span][torch.randperm(entry.size, generator=generator)]
    return shuffled
