import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.config import DataConfig
from trainers.data import Dataset, Source, check_batch, describe, load, make_dataset
from trainers.data.splitting import split_rows
from trainers.errors import DataError


def _source(y: np.ndarray, classes: int) -> Source:
    x = np.arange(2 * len(y), dtype=np.float32).reshape(-1, 2)
    names = tuple(str(c) for c in range(classes))
    return Source(x=x, y=y, task="classification", class_names=names)


@given(
    y=st.lists(st.integers(0, 3), min_size=12, max_size=200),
    val=st.floats(0.1, 0.45),
    test=st.floats(0.1, 0.45),
    seed=st.integers(0, 2**32),
)
@settings(deadline=None, max_examples=60)
def test_parts_are_disjoint_complete_and_stratified(y, val, test, seed):
    y = np.array(y)
    config = DataConfig(val_fraction=val, test_fraction=test, split_seed=seed)
    parts = split_rows(_source(y, 4), config)
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    shares = (1 - val - test, val, test)
    for part, share in zip(parts, shares, strict=True):
        assert abs(len(part) - share * len(y)) <= 2
        for label in range(4):
            assert abs((y[part] == label).sum() - share * (y == label).sum()) <= 3


def test_the_split_depends_on_its_seed_and_the_test_rows_on_nothing_else():
    first = load(DataConfig(split_seed=1))
    again = load(DataConfig(split_seed=1, val_fraction=0.3, num_train=100, standardise=False))
    other = load(DataConfig(split_seed=2))
    raw = [dataset.scaler.undo(dataset.test()[0]) for dataset in (first, again, other)]
    torch.testing.assert_close(raw[0], raw[1], rtol=0, atol=1e-4)
    assert not torch.allclose(raw[0], raw[2])
    assert len({dataset.sha256 for dataset in (first, again, other)}) == 3


def test_standardising_uses_training_rows_only():
    dataset = load(DataConfig(name="wine"))
    torch.testing.assert_close(dataset.x_train.mean(0), torch.zeros(13), atol=1e-5, rtol=0)
    torch.testing.assert_close(dataset.x_train.std(0, correction=0), torch.ones(13))
    raw = load(DataConfig(name="wine", standardise=False))
    assert raw.x_val.mean(0).abs().max() > 1
    torch.testing.assert_close(dataset.scaler.mean, raw.x_train.mean(0))
    for name in ("train", "val", "test"):
        torch.testing.assert_close(
            dataset.scaler.undo(dataset.part(name)[0]), raw.part(name)[0], rtol=1e-4, atol=1e-4
        )


def test_a_constant_feature_becomes_zero():
    x = np.stack([np.full(40, 0.1), np.arange(40.0)], axis=1).astype(np.float32)
    source = Source(x=x, y=np.arange(40) % 2, task="classification", class_names=("a", "b"))
    dataset = make_dataset(source, DataConfig())
    assert dataset.x_train[:, 0].abs().max() < 1e-6
    assert torch.isfinite(dataset.x_val).all()


def test_numbers_are_standardised_and_come_back():
    dataset = load(DataConfig(name="diabetes"))
    assert dataset.task == "regression"
    assert dataset.y_train.shape == (266, 1)
    raw = load(DataConfig(name="diabetes", standardise=False))
    torch.testing.assert_close(
        dataset.target_scaler.undo(dataset.y_val), raw.y_val, rtol=1e-5, atol=1e-3
    )
    assert dataset.dummy_loss() == pytest.approx(0.5, rel=1e-5)
    variance = raw.y_train.double().var(correction=0).item()
    assert raw.dummy_loss() == pytest.approx(variance / 2, rel=1e-9)


def test_dummy_loss_of_classes():
    dataset = load(DataConfig())
    assert dataset.dummy_loss() == math.log(10)
    one_hot = torch.nn.functional.one_hot(dataset.y_train).double()
    variance = one_hot.var(dim=0, correction=0).sum().item()
    assert dataset.dummy_loss("half_mse") == pytest.approx(variance / 2, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "shape", "num_outputs", "rows"),
    [
        ("digits", (1, 8, 8), 10, 1797),
        ("mnist1d", (1, 40), 10, 5000),
        ("breast_cancer", (30,), 2, 569),
        ("wine", (13,), 3, 178),
        ("diabetes", (10,), 1, 442),
        ("moons", (2,), 2, 1000),
    ],
)
def test_built_in_sets(name, shape, num_outputs, rows):
    dataset = load(DataConfig(name=name))
    assert dataset.input_shape == shape == tuple(dataset.x_train.shape[1:])
    assert (dataset.num_outputs, dataset.num_rows) == (num_outputs, rows)
    assert dataset.x_train.dtype == torch.float32
    total = sum(len(dataset.part(part)[0]) for part in ("train", "val", "test"))
    assert total == rows
    assert describe(name)["rows"] == rows
    if dataset.task == "classification":
        assert dataset.y_train.dtype == torch.int64
        assert len(dataset.class_names) == num_outputs


def test_num_train_takes_the_first_rows_of_the_training_split():
    whole, cut = (
        load(DataConfig(standardise=False)),
        load(DataConfig(standardise=False, num_train=50)),
    )
    assert torch.equal(whole.x_train[:50], cut.x_train)
    assert torch.equal(whole.x_val, cut.x_val)
    with pytest.raises(DataError, match=r"`data.num_train` must be <= 1079"):
        load(DataConfig(num_train=2000))


def test_unknown_name_offers_the_nearest():
    with pytest.raises(DataError, match="did you mean `digits`"):
        load(DataConfig(name="digts"))


def test_too_few_rows_for_three_parts():
    with pytest.raises(DataError, match="the validation part would be empty"):
        make_dataset(_source(np.array([0, 1, 0]), 2), DataConfig())


def test_batch_larger_than_the_training_rows():
    dataset = load(DataConfig(num_train=50))
    check_batch(dataset, 50)
    with pytest.raises(DataError, match="got 64 and 50 rows of `digits`"):
        check_batch(dataset, 64)


def test_loading_is_cached_per_configuration():
    assert load(DataConfig()) is load(DataConfig())
    assert load(DataConfig()) is not load(DataConfig(split_seed=9))


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_arrays_ship_a_dataset_without_copying(name):
    dataset = load(DataConfig(name=name))
    payload = dataset.to_arrays()
    assert np.shares_memory(payload["x_train"], dataset.x_train.numpy())
    read_only = payload["x_train"].view()
    read_only.flags.writeable = False  # as arrays from an object store are
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        shared = Dataset.from_arrays({**payload, "x_train": read_only})
    assert shared.x_train.data_ptr() == dataset.x_train.data_ptr()
    shipped = Dataset.from_arrays(pickle.loads(pickle.dumps(payload)))
    for part in ("train", "val", "test"):
        for ours, theirs in zip(dataset.part(part), shipped.part(part), strict=True):
            assert torch.equal(ours, theirs)
    assert torch.equal(shipped.scaler.mean, dataset.scaler.mean)
    assert shipped.sha256 == dataset.sha256
    assert shipped.dummy_loss() == dataset.dummy_loss()


def test_to_moves_numbers_and_leaves_classes():
    dataset = load(DataConfig()).to("cpu", torch.float64)
    assert dataset.x_val.dtype == torch.float64
    assert dataset.test()[1].dtype == torch.int64


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")
def test_to_moves_every_part_to_the_gpu():
    dataset = load(DataConfig()).to("cuda")
    assert all(dataset.part(part)[0].is_cuda for part in ("train", "val", "test"))
    assert torch.equal(Dataset.from_arrays(dataset.to_arrays()).x_train, dataset.x_train.cpu())
