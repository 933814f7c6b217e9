"""How packs of one signature are run on this machine, and why: tier, fuse width, lanes, threads.

Whatever is chosen here can be written down and used again: on a retry, on resume, on other hosts.
Only the tier may touch a result (by rounding); fuse width and pack size never do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from statistics import median

import torch
from torch import nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.lanes import memory
from trainers.lanes.engines import (
    Tier,
    make_engine,
    resolve_device,
    supported_tiers,
)
from trainers.lanes.groups import batch_borders
from trainers.lanes.lane_layers import runs_outside_vmap
from trainers.lanes.probe import probe
from trainers.lanes.signature import signature
from trainers.models import build_model
from trainers.trial import ExecutionPlan, Trial

_WIDTHS = (1, 2, 4, 8, 16, 32, 64)
_CACHE_BYTES = 6 << 20
_WORTH_MEASURING_S = 3.0
_ASSUMED_FLOPS_PER_S = 2e10
_VMAP_MUST_WIN_BY = 1.25
_REPEATS = 3
_STEPS = 3
_ONE_THREAD = (
    "1: lanes side by side in one call leave nothing for more threads to do, more threads than "
    "free cores made a step 30 times slower, and results must not depend on the number of workers"
)
_plans: dict[tuple[str, str, int | None, bool], ExecutionPlan] = {}

Rates = dict[tuple[Tier, int], float]
"""Lane-steps per second by tier and fuse width."""


def make_plan(
    trials: Sequence[Trial],
    dataset: Dataset,
    device: str = "auto",
    memory_limit_bytes: int | None = None,
) -> ExecutionPlan:
    """Choose how trials of one signature are run, by measurement where that pays.

    Measuring takes a fraction of a second. Where the trials' whole training is estimated at less
    than a few seconds, rules of thumb decide instead, and the reasons say so. A plan is made once
    per signature, device and process.

    Args:
        trials: Trials of one signature; their number and epochs say how much work is ahead.
        dataset: Their data.
        device: auto, cpu or cuda.
        memory_limit_bytes: What a pack may take; None: half of what is free on the device.

    Raises:
        ConfigError: where the device is not there, or one trial does not fit into its memory.
    """
    chosen, device_reason = resolve_device(device)
    config = trials[0].config
    key_of_pack = signature(config, dataset)
    pays = _expected_seconds(trials, dataset) >= _WORTH_MEASURING_S
    key = (key_of_pack, chosen, memory_limit_bytes, pays)
    if key in _plans:
        return _plans[key]
    module = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    per_lane, work = memory.lane_bytes(module, config, dataset)
    limit = memory.free_bytes(chosen) if memory_limit_bytes is None else memory_limit_bytes
    memory.most_lanes(per_lane, work, 1, limit, chosen)
    candidates, tier_reason = _candidates(trials, dataset, module, chosen, pays)
    rates: Rates = {}
    if pays:
        rates = _measure(trials, dataset, candidates, chosen, limit // (per_lane + work))
        tier, width, tier_reason, width_reason = _fastest(rates, tier_reason)
    else:
        tier = candidates[-1]
        width, width_reason = _width_by_thumb(tier, memory.hot_bytes(module, config), chosen)
    max_lanes, memory_reason = memory.most_lanes(per_lane, work, width, limit, chosen)
    plan = ExecutionPlan(
        signature=key_of_pack,
        tier=tier,
        fuse_width=width,
        max_lanes=max_lanes,
        num_threads=1,
        dtype=config.train.precision,
        device=chosen,
        reasons={
            "tier": tier_reason,
            "fuse_width": width_reason,
            "max_lanes": memory_reason,
            "num_threads": _ONE_THREAD,
            "device": device_reason,
        },
        measured={f"{t}, fuse_width {w}, lane-steps/s": rate for (t, w), rate in rates.items()},
    )
    _plans[key] = plan
    return plan


def fixed_plan(
    trials: Sequence[Trial], dataset: Dataset, *, tier: Tier, fuse_width: int, device: str = "cpu"
) -> ExecutionPlan:
    """Return a plan with the tier and the fuse width that the caller chose."""
    return ExecutionPlan(
        signature=signature(trials[0].config, dataset),
        tier=tier,
        fuse_width=fuse_width,
        max_lanes=memory.MOST_LANES,
        num_threads=1,
        dtype=trials[0].config.train.precision,
        device=device,
        reasons=dict.fromkeys(("tier", "fuse_width", "max_lanes", "num_threads"), "asked for"),
    )


def _expected_seconds(trials: Sequence[Trial], dataset: Dataset) -> float:
    """Estimate the training time ahead, from 6 FLOPs per parameter and row."""
    config = trials[0].config
    module = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    num_params = sum(p.numel() for p in module.parameters())
    epochs = sum(trial.config.train.epochs for trial in trials)
    rows = config.train.rows_per_epoch or dataset.num_train
    return 6 * num_params * rows * epochs / _ASSUMED_FLOPS_PER_S


def _candidates(
    trials: Sequence[Trial], dataset: Dataset, module: nn.Module, device: str, pays: bool
) -> tuple[list[Tier], str]:
    """Return the tiers that may be used, the rule's choice last, and why.

    On a CPU, convolutions that `lane_layers` does not run stay lane by lane: as one grouped
    convolution they mostly lose there, and torch picks another kernel for one lane than for
    several, which would make packing visible in float32.
    """
    configs = [trial.config for trial in trials]
    best = supported_tiers(configs[0])[0]
    rule = configs[0].learning_rule.kind
    if rule != "backprop":
        # The probe compares with autograd, which is not what a rule computes.
        return ["kernels"], f"the rule {rule} is written out over lanes"
    grouped = any(
        isinstance(part, nn.modules.conv._ConvNd)
        and not (runs_outside_vmap(part) and configs[0].train.precision != "bf16")
        for part in module.modules()
    )
    if best == "vmap" and grouped and device == "cpu":
        return ["lane_by_lane"], (
            "convolutions would be one grouped convolution, which mostly loses on a CPU, and torch "
            "rounds one lane's differently"
        )
    if best == "vmap" and device == "cpu" and not pays:
        # Lane by lane whatever the probe says, so it is not asked: it takes seconds for a large
        # batch of long windows.
        return ["lane_by_lane"], (
            "lane by lane by rule of thumb: the training ahead is too short to repay finding out "
            "whether vmap is allowed and faster"
        )
    verdict = probe(
        lambda template, some, data: make_engine(best, template, some, data), configs, dataset
    )
    if not verdict.equal:
        return ["lane_by_lane"], f"{best} refused: {verdict.reason}"
    if best == "kernels":
        return ["kernels"], f"written-out kernels for an mlp; {verdict.reason}"
    if device == "cuda":
        return ["lane_by_lane", "vmap"], f"vmap by rule of thumb on a GPU; {verdict.reason}"
    return ["vmap", "lane_by_lane"], f"vmap is allowed; {verdict.reason}"


def _width_by_thumb(tier: Tier, hot_bytes: int, device: str) -> tuple[int, str]:
    if tier == "lane_by_lane":
        return 1, "1: lanes run one after the other"
    if device == "cuda":
        return 64, "64 by rule of thumb: a GPU wants many lanes per call"
    fits = max(1, _CACHE_BYTES // hot_bytes)
    width = max(width for width in _WIDTHS if width <= fits or width == 1)
    return width, (
        f"{width} by rule of thumb: so many lanes fit into {_CACHE_BYTES >> 20} MiB of cache; "
        "the training ahead is too short to repay measuring"
    )


def _fastest(rates: Rates, tier_reason: str) -> tuple[Tier, int, str, str]:
    """Return (tier, width, reasons for both): the fastest, with lane by lane favoured over vmap."""

    def worth(candidate: tuple[Tier, int]) -> float:
        return rates[candidate] / (_VMAP_MUST_WIN_BY if candidate[0] == "vmap" else 1.0)

    tier, width = max(rates, key=worth)
    shown = ", ".join(f"{t} {w}: {rate:.0f}" for (t, w), rate in sorted(rates.items()))
    if len({t for t, _ in rates}) > 1:
        tier_reason = (
            f"{tier} measured; vmap would have to win by {_VMAP_MUST_WIN_BY} "
            f"to be worth its rounding ({shown} lane-steps/s)"
        )
    return tier, width, tier_reason, f"{width}: the fastest measured ({shown} lane-steps/s)"


def _measure(
    trials: Sequence[Trial],
    dataset: Dataset,
    tiers: Sequence[Tier],
    device: str,
    lanes_that_fit: int,
) -> Rates:
    """Measure each tier at growing widths, until two in a row were no faster."""
    rates: Rates = {}
    for tier in tiers:
        best, disappointments = 0.0, 0
        for width in (1,) if tier == "lane_by_lane" else _WIDTHS:
            if width > lanes_that_fit or disappointments == 2:
                break
            rate = _rate(trials, dataset, tier, width, device)
            rates[tier, width] = rate
            disappointments = 0 if rate > 1.02 * best else disappointments + 1
            best = max(best, rate)
    return rates


def _rate(trials: Sequence[Trial], dataset: Dataset, tier: Tier, width: int, device: str) -> float:
    """Return lane-steps per second over a few steps; the median of some repeats."""
    # Late import: `pack` makes a plan where none is given.
    from trainers.lanes.pack import Pack

    first = trials[0]
    lanes = [
        replace(trial, trial_id=i, seed=i, config=_with_whole_passes(trial.config))
        for i, trial in ((i, trials[i % len(trials)]) for i in range(width))
    ]
    config = first.config
    short = replace(
        dataset,
        x_train=dataset.x_train[: _STEPS * config.train.batch_size],
        y_train=dataset.y_train[: _STEPS * config.train.batch_size],
        x_val=dataset.x_val[:1],
        y_val=dataset.y_val[:1],
    )
    plan = fixed_plan(lanes, dataset, tier=tier, fuse_width=width, device=device)
    seconds = []
    with _one_thread(), torch.no_grad():
        pack = Pack(lanes, [None] * width, short, plan)
        for _ in range(1 + _REPEATS):
            seconds.append(pack.train_once_more())
    num_steps = len(batch_borders(short.num_train, config.train.batch_size))
    return width * num_steps / median(seconds[1:])


def _with_whole_passes(config: TrialConfig) -> TrialConfig:
    """Return the configuration with an epoch that ends with the few rows it is measured on."""
    if config.train.rows_per_epoch is None:
        return config
    return config.with_values({"train.rows_per_epoch": None})


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
