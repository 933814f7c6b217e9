"""Ratios of rates against hand-written loops over torch's own layers."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.benchmarks.architectures import (
    BATCH,
    MODELS,
    STEPS,
    Variant,
    config_of,
    measure,
    pack_epoch,
    take_turns,
    trials_of,
)
from tests.benchmarks.torch_twins import hand_written_epoch
from trainers.data import Dataset, load
from trainers.lanes.plan import fixed_plan


@pytest.fixture
def dataset() -> Iterator[Dataset]:
    data, threads = load(config_of({}).data), torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        rows = STEPS * BATCH
        yield replace(data, x_train=data.x_train[:rows], y_train=data.y_train[:rows])
    torch.set_num_threads(threads)


def test_a_single_lstm_steps_as_fast_as_torchs_own(dataset: Dataset) -> None:
    """With room for noise: written out, a single one had 0.4 of torch's rate."""
    config = config_of({"kind": "lstm", **MODELS["lstm"]})
    plan = fixed_plan(trials_of(config, 1), dataset, tier="lane_by_lane", fuse_width=1)
    loop = Variant(hand_written_epoch(config, dataset), 1)
    alone = pack_epoch(config, dataset, plan)
    take_turns([loop, alone], 5)
    assert alone.rate() > 0.7 * loop.rate()


@pytest.mark.benchmark
@pytest.mark.parametrize("kind", MODELS)
def test_as_planned_no_model_is_slower_than_a_loop(dataset: Dataset, kind: str) -> None:
    model: dict[str, Any] = {"kind": kind, **MODELS[kind]}
    assert measure(config_of(model), dataset, 7)["as planned / loop"] > 0.95
