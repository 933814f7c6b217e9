"""Lecture, p. 48: dropout on at prediction, several passes, mean and spread."""

import numpy as np
import pytest
import torch
from torch import nn

from trainers.config import TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.initialisation import initialise
from trainers.models import build_model
from trainers.monte_carlo import calibration
from trainers.predictor import Predictor


def predictor_of(**values: object) -> Predictor:
    config = TrialConfig.from_mapping({"model.width": 32, "model.dropout": 0.5, **values})
    dataset = load(config.data)
    module = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    initialise(module, config.init, config.model.activation, 0)
    return Predictor.from_dataset(module, config, dataset)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return load(TrialConfig().data).x_val[:20].numpy() * 5 + 8


def test_the_mean_and_std_are_those_of_single_passes(rows):
    predictor = predictor_of()
    spread = predictor.predict_spread(rows, passes=7, seed=3)
    for part in predictor.module.modules():
        part.train(type(part).__name__ == "LaneDropout")
    passes = []
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(3)
        for _ in range(7):
            passes.append(predictor(torch.from_numpy(rows)).double().softmax(-1).numpy())
    np.testing.assert_allclose(spread.mean, np.mean(passes, axis=0), atol=1e-12)
    np.testing.assert_allclose(spread.std, np.std(passes, axis=0, ddof=1), atol=1e-12)
    np.testing.assert_allclose(spread.standard_error, spread.std / np.sqrt(7))
    assert (spread.std > 0).all()


def test_the_spread_of_the_mean_falls_as_one_over_the_root_of_the_passes(rows):
    predictor = predictor_of()

    def spread_of_means(passes: int) -> float:
        means = [predictor.predict_spread(rows, passes, seed).mean for seed in range(24)]
        return float(np.std(means, axis=0, ddof=1).mean())

    few, many = spread_of_means(4), spread_of_means(64)
    assert few / many == pytest.approx(4, rel=0.25)


def test_normalisation_stays_in_evaluation_and_torchs_generator_is_left_alone(rows):
    predictor = predictor_of(**{"model.batch_norm": "before"})
    before = {name: value.clone() for name, value in predictor.state_dict().items()}
    state = torch.random.get_rng_state()
    first = predictor.predict_spread(rows, passes=5)
    assert torch.equal(torch.random.get_rng_state(), state)
    for name, value in predictor.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(part.training for part in predictor.modules())
    # A row's answer does not depend on its neighbours, as it would under batch statistics.
    alone = predictor.predict_spread(rows[:1], passes=5)
    assert first.mean.shape == (20, 10)
    np.testing.assert_array_equal(first.mean, predictor.predict_spread(rows, passes=5).mean)
    assert alone.mean.shape == (1, 10)


def test_rows_far_from_the_data_have_a_larger_spread():
    predictor = predictor_of(**{"data.name": "diabetes"})
    near = np.zeros((30, *predictor.input_shape), np.float32) + predictor.x_mean.numpy()
    far = near + 20 * predictor.x_std.numpy()
    near = near + predictor.x_std.numpy()
    close, distant = (predictor.predict_spread(some, passes=40) for some in (near, far))
    assert distant.std.mean() > 5 * close.std.mean()
    assert close.labels.shape == (30,)
    np.testing.assert_allclose(close.labels, close.mean[:, 0])


def test_a_model_without_dropout_or_a_single_pass_is_refused(rows):
    with pytest.raises(ConfigError, match=r"`model\.dropout` above 0"):
        predictor_of(**{"model.dropout": 0.0}).predict_spread(rows)
    with pytest.raises(ConfigError, match="at least 2 passes, but got 1"):
        predictor_of().predict_spread(rows, passes=1)


def test_torchs_own_dropout_in_a_users_module_is_on_as_well(rows):
    predictor = predictor_of()
    predictor.module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    assert (predictor.predict_spread(rows, passes=5).std > 0).any()


def test_calibration_is_zero_for_honest_confidences_and_their_excess_otherwise():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 40_000)
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    honest = (rng.random(40_000) > confidence).astype(int)
    assert calibration(probabilities, honest).expected_error < 0.01
    coins = rng.integers(0, 2, 40_000)  # always right in half of the cases
    assert calibration(probabilities, coins).expected_error == pytest.approx(0.25, abs=0.01)
    assert calibration(probabilities, coins).num_rows.sum() == 40_000
