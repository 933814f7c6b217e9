"""The loss landscape of Li et al. (2018), the lecture's p. 35."""

import numpy as np
import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.initialisation import initialise
from trainers.landscape import Surface, filter_normalised, loss_surface, scores
from trainers.lanes.flat import FlatLayout
from trainers.models import build_model


def made(**values: object):
    config = TrialConfig.from_mapping({"data.num_train": 200, "model.width": 8, **values})
    dataset = load(config.data)
    module = build_model(config.model, dataset.input_shape, dataset.num_outputs)
    if config.train.precision == "float64":
        module = module.double()
    initialise(module, config.init, config.model.initial_activation, 0)
    return module.eval(), config, dataset


def row_of(module) -> tuple[FlatLayout, torch.Tensor]:
    layout = FlatLayout.of(module)
    row = torch.zeros(layout.size, dtype=next(module.parameters()).dtype)
    layout.read(module, row)
    return layout, row


def bowl(function) -> Surface:
    axis = np.linspace(-1, 1, 21)
    alpha, beta = np.meshgrid(axis, axis)
    return Surface(axis=axis, loss=function(alpha, beta), seed=0)


@pytest.mark.parametrize(
    "values", [{"model.batch_norm": "before"}, {"model.kind": "cnn", "model.width": 4}]
)
def test_every_filter_of_a_direction_has_the_norm_of_its_weights(values):
    module, _, _ = made(**values)
    layout, row = row_of(module)
    direction = filter_normalised(layout, row, seed=1)
    drawn = layout.views(direction[None])
    for name, parameter in module.named_parameters():
        if parameter.ndim < 2:
            assert (drawn[name] == 0).all()
        else:
            own = drawn[name][0].flatten(1).norm(dim=1)
            torch.testing.assert_close(own, parameter.detach().flatten(1).norm(dim=1))
    assert not torch.equal(direction, filter_normalised(layout, row, seed=2))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"model.kind": "resmlp", "model.depth": 2, "model.batch_norm": "before"},
        {"model.kind": "cnn", "model.depth": 1, "model.width": 4},
    ],
)
def test_every_grid_point_is_the_loss_of_a_module_with_these_weights(values):
    module, config, dataset = made(**{"train.precision": "float64", **values})
    surface = loss_surface(module, config, dataset, size=5, span=0.5, seed=3, num_rows=50)
    layout, row = row_of(module)
    delta, eta = (filter_normalised(layout, row, seed) for seed in (6, 7))
    x, y = dataset.x_train[:50].double(), dataset.y_train[:50]
    for i, j in ((2, 2), (0, 0), (4, 1), (3, 4)):
        layout.write(module, row + surface.axis[j] * delta + surface.axis[i] * eta)
        with torch.no_grad():
            expected = torch.nn.functional.cross_entropy(module(x), y)
        assert surface.loss[i, j] == pytest.approx(float(expected), rel=1e-9)
    assert surface.centre == surface.loss[2, 2]
    layout.write(module, row)


def test_scaling_one_layer_up_and_the_next_down_leaves_the_surface_unchanged():
    """ReLU without biases' help: the function is the same, so its picture must be."""
    module, config, dataset = made(**{"train.precision": "float64"})
    surface = loss_surface(module, config, dataset, size=7)
    with torch.no_grad():
        module.layers[0].linear.weight *= 10
        module.layers[0].linear.bias *= 10
        module.layers[1].linear.weight /= 10
    again = loss_surface(module, config, dataset, size=7)
    np.testing.assert_allclose(again.loss, surface.loss, rtol=1e-9)


def test_on_a_quadratic_the_surface_is_exact():
    """A linear model under half_mse: second differences along any line are constant."""
    module, config, dataset = made(
        **{"model.depth": 0, "train.loss": "half_mse", "train.precision": "float64"}
    )
    loss = loss_surface(module, config, dataset, size=9).loss
    second = np.diff(loss, n=2, axis=1)
    np.testing.assert_allclose(second, second[0, 0], rtol=1e-7)
    found = scores(Surface(axis=np.linspace(-1, 1, 9), loss=loss, seed=0))
    assert found.negative_curvature == 0


def test_scores_of_known_surfaces():
    round_ = scores(bowl(lambda a, b: a**2 + b**2))
    assert round_.negative_curvature == 0
    assert round_.monotone_rays == 1
    assert round_.low_area == pytest.approx(np.pi * 0.1 / 4, abs=0.02)
    saddle = scores(bowl(lambda a, b: a**2 - b**2))
    assert saddle.negative_curvature == 1
    waves = scores(bowl(lambda a, b: np.sin(9 * a) ** 2 + b**2))
    assert 0.2 < waves.negative_curvature < 0.9
    assert waves.monotone_rays == 0
    cliff = bowl(lambda a, b: np.where(a > 0.5, np.nan, a**2 + b**2))
    assert 0 < scores(cliff).monotone_rays < 1


def test_a_grid_without_a_middle_is_refused():
    with pytest.raises(ConfigError, match="must be odd and at least 3"):
        loss_surface(*made(), size=10)
    with pytest.raises(ConfigError, match="span must be > 0"):
        loss_surface(*made(), span=0.0)
