"""Share of the core's measured sgemm rate that packs reach: kernels, vmap, lane by lane, and a CNN.

The MLPs are those of `step_rate`. The CNN's share counts the FLOPs of its convolutions and its
head, by torch's counter, against the same sgemm rate: convolutions do not run at that rate
anywhere, so its figure says what is lost to them as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time
from typing import Any

import torch
from torch import nn

from tests.benchmarks.machine import describe_machine
from tests.benchmarks.results import save
from tests.benchmarks.step_rate import BATCH, measure, sgemm_flops_per_s, train_only
from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.flops import flops_per_epoch
from trainers.lanes.engines import Tier
from trainers.lanes.groups import batch_borders
from trainers.lanes.pack import Pack
from trainers.lanes.plan import fixed_plan
from trainers.models import build_model
from trainers.trial import Trial

AIMS = {32: 35, 128: 60, 512: 65}
"""Width -> percent of sgemm that kernels should reach."""
CNN: dict[str, Any] = {"model.kind": "cnn", "model.width": 16, "model.depth": 2}
CNN_VARIANTS: tuple[tuple[Tier, int], ...] = (("lane_by_lane", 1), ("vmap", 8))
REMARKS = (
    "One thread; seconds of the processor; medians of interleaved repeats; evaluation left out.",
    "`plain`: one model with torch.optim.SGD; `plain fused`: with fused=True.",
)


def cnn_trials(count: int) -> list[Trial]:
    """Return trials of a small CNN on the digits."""
    settings = {"optimizer.kind": "momentum", "optimizer.lr": 0.01, "train.epochs": 20}
    config = TrialConfig.from_mapping({**CNN, **settings})
    return [Trial(trial_id=i, seed=i, config=config) for i in range(count)]


def measure_cnn(repeats: int) -> list[dict[str, Any]]:
    """Measure the CNN plainly, lane by lane and under vmap, taking turns."""
    config = cnn_trials(1)[0].config
    dataset = load(config.data)
    variants: dict[tuple[str, int], Callable[[], None]] = {
        ("plain", 1): _plain_epoch(dataset, config),
        **{variant: _pack_epoch(dataset, *variant) for variant in CNN_VARIANTS},
    }
    times: dict[tuple[str, int], list[float]] = {key: [] for key in variants}
    rates = []
    for _ in range(repeats):
        rates.append(sgemm_flops_per_s(repeats=3))
        for key, run in variants.items():
            began_s = thread_time()
            run()
            times[key].append(thread_time() - began_s)
    num_steps = len(batch_borders(len(dataset.x_train), BATCH))
    with torch.enable_grad():  # the counter runs a backward pass
        flops_per_step = flops_per_epoch(config, dataset) / num_steps
    plain = num_steps / median(times["plain", 1])
    rows = []
    for (name, width), seconds in times.items():
        rate = width * num_steps / median(seconds)
        rows.append(
            {
                "variant": name,
                "fuse_width": width,
                "lane_steps_per_s": rate,
                "times_plain": rate / plain,
                "share_of_sgemm": rate * flops_per_step / median(rates),
            }
        )
    return rows


def _plain_epoch(dataset: Dataset, config: TrialConfig) -> Callable[[], None]:
    model = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    borders = batch_borders(len(dataset.x_train), BATCH)

    def run() -> None:
        with torch.enable_grad():
            order = torch.randperm(len(dataset.x_train))
            for start, stop in borders:
                rows = order[start:stop]
                optimizer.zero_grad()
                logits = model(dataset.x_train.index_select(0, rows))
                loss = nn.functional.cross_entropy(logits, dataset.y_train.index_select(0, rows))
                loss.backward()
                optimizer.step()

    run()
    return run


def _pack_epoch(dataset: Dataset, tier: Tier, width: int) -> Callable[[], None]:
    trials = cnn_trials(width)
    plan = fixed_plan(trials, dataset, tier=tier, fuse_width=width)
    pack = Pack(trials, [None] * width, dataset, plan)
    pack.train_once_more()
    (group,) = pack._groups
    return lambda: train_only(group)


def main(repeats: int = 15) -> Path:
    """Measure everything and write the tables."""
    machine = describe_machine()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            mlp, cnn = measure(repeats), measure_cnn(max(3, repeats // 3))
    finally:
        torch.set_num_threads(before)
    rate = median(float(row["sgemm_gflops"]) for row in mlp)
    tables = {
        f"MLP 64-H-H-10, batch {BATCH} (sgemm {rate:.0f} GFLOP/s)": [_mlp_row(r) for r in mlp],
        "CNN on digits, 2 blocks of 16 channels, batch 64": [_row(r) for r in cnn],
    }
    return save("share-of-sgemm", machine, tables, {"mlp": mlp, "cnn": cnn}, REMARKS)


def _mlp_row(row: dict[str, Any]) -> dict[str, Any]:
    aim = f"{AIMS[row['width']]} %" if row["variant"] == "kernels" else ""
    return {"width": row["width"], **_row(row), "aim": aim}


def _row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "variant": row["variant"],
        "lanes a call": row["fuse_width"],
        "lane-steps/s": round(row["lane_steps_per_s"]),
        "times plain": row["times_plain"],
        "% of sgemm": round(100 * row["share_of_sgemm"], 1),
    }
