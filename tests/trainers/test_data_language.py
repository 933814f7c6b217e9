"""The standard library as a language: windows, targets, parts by offset, and losses of tokens."""

import math
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainers import to_module, train_pack
from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.data import Source, describe, load, make_dataset
from trainers.errors import ConfigError, DataError
from trainers.losses import loss_function, loss_rows_function, resolve_loss
from trainers.models import check_task
from trainers.predictor import Predictor
from trainers.trial import Trial


def text_source(size: int) -> Source:
    text = np.arange(size, dtype=np.int64) % 251
    names = tuple(str(value) for value in range(256))
    return Source(
        x=text.astype(np.uint8), y=np.empty(0, np.int64), task="language", class_names=names
    )


def test_the_text_is_the_librarys_own() -> None:
    dataset = load(DataConfig(name="stdlib-bytes", context=32))
    assert (dataset.task, dataset.input_shape, dataset.num_outputs) == ("language", (32,), 256)
    first = bytes(dataset.x_train[:40].flatten().to(torch.uint8).tolist())
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(folder.glob("*.py"))
    assert (files[0].read_bytes() + files[1].read_bytes()).startswith(first[:1000])
    assert dataset.dummy_loss() == pytest.approx(math.log(256))
    assert describe("stdlib-bytes")["task"] == "language"


@pytest.mark.parametrize("split_seed", [0, 3])
def test_every_target_is_the_next_byte_and_belongs_to_one_part(split_seed: int) -> None:
    source = text_source(1001)
    config = DataConfig(name="text", context=10, split_seed=split_seed)
    dataset = make_dataset(source, config)
    parts = [dataset.part(name) for name in ("train", "val", "test")]
    assert [len(x) for x, _ in parts] == [60, 20, 20]
    for x, y in parts:
        assert torch.equal(x[:, 1:].long(), y[:, :-1])
        # Neighbouring windows join without a gap, except where the turned text starts anew.
        joins = x[1:, 0].long() == y[:-1, -1]
        assert (~joins).sum() <= int(bool(split_seed))
    targets = torch.cat([y.flatten() for _, y in parts])
    expected = np.bincount(source.x[1:1001], minlength=251)
    assert np.array_equal(np.bincount(targets.numpy(), minlength=251), expected)


def test_another_split_seed_holds_out_another_stretch() -> None:
    source = text_source(1001)
    held_out = [
        make_dataset(source, DataConfig(name="text", context=10, split_seed=seed)).x_val
        for seed in (0, 1, 1)
    ]
    assert not torch.equal(held_out[0], held_out[1])
    assert torch.equal(held_out[1], held_out[2])


def test_bad_input_is_refused_with_what_would_work() -> None:
    with pytest.raises(DataError, match=r"every part of the text needs a window.*`data.context`"):
        make_dataset(text_source(100), DataConfig(name="text", context=90))
    with pytest.raises(DataError, match=r"`data.num_train` must be <= 60"):
        make_dataset(text_source(1001), DataConfig(name="text", context=10, num_train=61))
    with pytest.raises(DataError, match=r"`data.context` cuts texts.*`digits`"):
        load(DataConfig(name="digits", context=8))
    with pytest.raises(ConfigError, match=r"half_mse` needs classes or numbers"):
        resolve_loss("half_mse", "language")
    with pytest.raises(ConfigError, match=r"needs `model.language_model: true`"):
        check_task(ModelConfig(kind="gru"), "language")
    with pytest.raises(ConfigError, match=r"`model.language_model` is for data of task language"):
        check_task(ModelConfig(kind="gru", language_model=True), "classification")


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_tokens_is_torchs_over_all_positions(smoothing: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 5, 7, 11, dtype=torch.float64)  # two lanes
    y = torch.randint(0, 11, (5, 7))
    kind = resolve_loss("auto", "language")
    for lane in logits:
        expected = F.cross_entropy(lane.flatten(0, 1), y.flatten(), label_smoothing=smoothing)
        torch.testing.assert_close(loss_function(kind)(lane, y, smoothing), expected)
    own = torch.full((2,), smoothing, dtype=torch.float64)
    stacked = loss_rows_function(kind)(logits, y, own)
    assert stacked.shape == (2, 5)
    alone = [loss_rows_function(kind)(lane, y, smoothing) for lane in logits]
    torch.testing.assert_close(stacked, torch.stack(alone))


def test_a_language_model_learns_and_its_predictor_continues_text() -> None:
    config = TrialConfig.from_mapping(
        {
            "data": {"name": "stdlib-bytes", "context": 16, "num_train": 512, "val_fraction": 0.01},
            "model": {"kind": "gru", "depth": 1, "width": 32, "language_model": True},
            "optimizer.lr": 1e-2,
            "train": {"epochs": 3, "batch_size": 16},
        }
    )
    trial = Trial(trial_id=0, config=config, seed=0)
    dataset = load(config.data)
    result = train_pack([trial], None, 3, dataset=dataset, device="cpu")
    (row,) = result.rows
    assert row.metrics["val_bits_per_byte"] < 5.0  # 8 is knowing nothing
    predictor = Predictor.from_dataset(to_module(result.states[0], trial, dataset), config, dataset)
    windows = dataset.x_val[:3].numpy()
    assert predictor.predict(windows).shape == (3, 16)
    chances = predictor.predict_proba(windows)
    assert chances.shape == (3, 16, 256)
    np.testing.assert_allclose(chances.sum(-1), 1)
    assert np.array_equal(chances.argmax(-1), predictor.predict(windows))
