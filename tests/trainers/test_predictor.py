import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits

from trainers.config import DataConfig, TrialConfig
from trainers.data import Source, load, make_dataset, read_features
from trainers.data.reading import read_file
from trainers.errors import CheckpointError, ConfigError, DataError
from trainers.initialisation import initialise
from trainers.models import build_model
from trainers.predictor import Predictor


def _predictor(dtype=torch.float32, **values) -> tuple[Predictor, TrialConfig]:
    config = TrialConfig.from_mapping({"model.width": 16, **values})
    dataset = load(config.data)
    module = build_model(config.model, dataset.input_shape, dataset.num_outputs).to(dtype)
    initialise(module, config.init, config.model.activation, 0)
    return Predictor.from_dataset(module, config, dataset), config


def _train(predictor: Predictor, config: TrialConfig) -> None:
    dataset = load(config.data)
    optimizer = torch.optim.Adam(predictor.module.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        outputs = predictor.module(dataset.x_train)
        torch.nn.functional.cross_entropy(outputs, dataset.y_train).backward()
        optimizer.step()


def test_raw_rows_give_labels_and_probabilities():
    predictor, config = _predictor()
    _train(predictor, config)
    digits = load_digits()
    labels = predictor.predict(digits.images)  # raw, without the channel axis
    assert (labels == digits.target).mean() > 0.9
    assert (labels == predictor.predict(digits.data)).all()
    probabilities = predictor.predict_proba(digits.images)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == labels).all()


def test_it_is_a_module_on_raw_tensors_with_the_scaler_inside():
    predictor, config = _predictor()
    dataset = load(config.data)
    raw = dataset.scaler.undo(dataset.x_val)
    torch.testing.assert_close(
        predictor(raw), predictor.module(dataset.x_val), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "values",
    [
        {"model.batch_norm": "before", "model.dropout": 0.3},
        {"model.kind": "cnn", "model.width": 4},
        {"data.name": "diabetes"},
        {"data.name": "wine"},
    ],
)
def test_saved_and_loaded_it_predicts_the_same(tmp_path, values, dtype):
    predictor, config = _predictor(dtype, **values)
    dataset = load(config.data)
    raw = dataset.scaler.undo(dataset.x_val)
    predictor.save(tmp_path / "deep" / "best.pt")
    loaded = Predictor.load(tmp_path / "deep" / "best.pt")
    assert torch.equal(loaded(raw), predictor(raw))
    assert (loaded.predict(raw) == predictor.predict(raw)).all()
    assert loaded.class_names == dataset.class_names
    assert next(loaded.module.parameters()).dtype == dtype
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["best.pt"]


def test_numbers_come_back_in_their_own_units():
    predictor, _ = _predictor(**{"data.name": "diabetes"})
    with torch.no_grad():
        for parameter in predictor.module.parameters():
            parameter.zero_()
    raw = load(DataConfig(name="diabetes", standardise=False))
    predicted = predictor.predict(raw.x_val)
    assert predicted.shape == (88,)
    np.testing.assert_allclose(predicted, raw.y_train.mean().item(), rtol=1e-5)


def test_a_data_frame_is_encoded_as_in_training(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"size": rng.random(60), "colour": rng.choice(["red", "blue"], 60), "kind": ["a", "b"] * 30}
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    config = TrialConfig.from_mapping({"model.width": 8})
    dataset = make_dataset(read_file(tmp_path / "table.csv", "kind"), config.data)
    module = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    predictor = Predictor.from_dataset(module, config, dataset)
    predictor.save(tmp_path / "best.pt")
    predictor = Predictor.load(tmp_path / "best.pt")
    rows = frame.drop(columns="kind")
    labels = predictor.predict(rows)
    assert set(labels) <= {"a", "b"}
    shuffled = rows[["colour", "size"]].assign(unused=1.0)
    assert (predictor.predict(shuffled) == labels).all()
    encoded = np.stack([rows["size"], rows["colour"] == "blue", rows["colour"] == "red"], axis=1)
    assert (predictor.predict(encoded) == labels).all()
    with pytest.raises(DataError, match=r"\['colour'\] are missing"):
        predictor.predict(rows[["size"]])
    with pytest.raises(DataError, match="`size` must be numbers"):
        predictor.predict(rows.assign(size="big"))


def test_images_with_channels_last_are_understood_and_transposed_ones_refused():
    config = TrialConfig.from_mapping({"model.kind": "cnn", "model.width": 4})
    x = np.random.default_rng(0).random((40, 3, 8, 12)).astype(np.float32)
    source = Source(x=x, y=np.arange(40) % 2, task="classification", class_names=("no", "yes"))
    dataset = make_dataset(source, config.data)
    predictor = Predictor.from_dataset(build_model(config.model, (3, 8, 12), 2), config, dataset)
    expected = predictor.predict_proba(x)
    np.testing.assert_array_equal(predictor.predict_proba(np.moveaxis(x, 1, 3)), expected)
    np.testing.assert_array_equal(predictor.predict_proba(x.reshape(40, -1)), expected)
    with pytest.raises(DataError, match=r"\[N, 3, 8, 12\].*shape \(40, 3, 12, 8\)"):
        predictor.predict(np.swapaxes(x, 2, 3))


def test_rows_are_read_from_files_for_prediction(tmp_path):
    digits = load_digits()
    predictor, _ = _predictor()
    expected = predictor.predict(digits.images)
    np.savez(tmp_path / "a.npz", X=digits.images, y=digits.target)
    assert (predictor.predict(read_features(tmp_path / "a.npz")) == expected).all()
    pd.DataFrame(digits.data).to_csv(tmp_path / "a.csv", index=False)
    assert (predictor.predict(read_features(tmp_path / "a.csv")) == expected).all()
    with pytest.raises(DataError, match="there is none"):
        read_features(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((3, 63)), r"must be \[N, 1, 8, 8\] with N >= 1, but have shape \(3, 63\)"),
        (np.zeros((0, 64)), r"shape \(0, 64\)"),
        (np.full((1, 64), np.nan), "NaN or infinite values in `rows`: 64"),
        ([["a"] * 64], "rows must be numbers"),
    ],
)
def test_rows_that_do_not_fit_are_refused(rows, message):
    with pytest.raises(DataError, match=message):
        _predictor()[0].predict(rows)


def test_probabilities_need_cross_entropy():
    with pytest.raises(ConfigError, match="trained by half_mse"):
        _predictor(**{"train.loss": "half_mse"})[0].predict_proba(np.zeros((1, 64)))
    with pytest.raises(ConfigError, match="task regression"):
        _predictor(**{"data.name": "diabetes"})[0].predict_proba(np.zeros((1, 10)))


def test_files_that_are_no_predictors_are_refused(tmp_path):
    predictor, _ = _predictor()
    path = tmp_path / "best.pt"
    predictor.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"written by `Predictor.save`"):
        Predictor.load(path)
    path.write_text("hello")
    with pytest.raises(CheckpointError, match=r"written by `Predictor.save`"):
        Predictor.load(path)
    torch.save({"weights": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="a pack's checkpoint is not a predictor"):
        Predictor.load(path)
    with pytest.raises(CheckpointError, match="FileNotFoundError"):
        Predictor.load(tmp_path / "none.pt")
    stored = {**torch.load(_saved(predictor, tmp_path), weights_only=True)}
    stored["state"].pop("module.head.bias")
    torch.save(stored, path)
    with pytest.raises(CheckpointError, match="factory may have changed"):
        Predictor.load(path)


def _saved(predictor: Predictor, folder):
    predictor.save(folder / "good.pt")
    return folder / "good.pt"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible")
def test_it_predicts_on_the_gpu_what_it_predicts_on_the_cpu(tmp_path):
    predictor, _ = _predictor()
    on_gpu = Predictor.load(_saved(predictor, tmp_path), device="cuda")
    rows = load_digits().images[:200]
    np.testing.assert_allclose(
        on_gpu.predict_proba(rows), predictor.predict_proba(rows), rtol=1e-3, atol=1e-4
    )
