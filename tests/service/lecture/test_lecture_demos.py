"""What the pages' demos find, against autograd, torch, closed forms and published numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from service.lecture.demos.activations import Activations, curves
from service.lecture.demos.batch_norm import OneBatch, Running, one_batch, running
from service.lecture.demos.complexity import Complexity, orders
from service.lecture.demos.descent import (
    Descent,
    Minima,
    Regimes,
    convergence,
    minima,
    regimes,
)
from service.lecture.demos.dropout import Ensemble, Masks, ensemble, masks
from service.lecture.demos.losses import Chain, Losses, chain, losses
from service.lecture.demos.scaling import (
    Carbon,
    Compute,
    Hardware,
    Sizes,
    alphago,
    carbon,
    compute,
    decoders,
)
from service.lecture.demos.shapes import Depths, Memory, depth_or_width, memory, sizes, width_for
from service.lecture.demos.shapes import Sizes as ShapeSizes
from service.lecture.demos.signals import Signals, depths
from service.lecture.demos.trajectories import Trajectories, misprinted_adam, paths
from service.lecture.demos.worked import Perceptron, Worked, by_equations, gradients, perceptron
from trainers.config import InitConfig
from trainers.flops import count_params
from trainers.initialisation import initialise
from trainers.models.mlp import Mlp

ACTIVATIONS = ["sigmoid", "tanh", "relu", "elu", "identity"]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=6),
    st.sampled_from(ACTIVATIONS),
    st.sampled_from(["cross_entropy", "half_mse"]),
    st.integers(0, 1000),
)
def test_the_pages_equations_are_autograds_for_any_net(widths, activation, loss, seed):
    found = gradients(Worked(widths=tuple(widths), activation=activation, loss=loss, seed=seed))
    assert found.measures["largest difference from autograd"] < 1e-12
    assert found.measures["error terms computed"] == len(widths) - 1


def test_a_weight_gradient_is_an_outer_product_of_the_weights_shape():
    torch.manual_seed(0)
    weights = [torch.randn(3, 2, dtype=torch.float64), torch.randn(1, 3, dtype=torch.float64)]
    biases = [torch.randn(3, dtype=torch.float64), torch.randn(1, dtype=torch.float64)]
    x, y = torch.randn(2, dtype=torch.float64), torch.randn(1, dtype=torch.float64)
    found = by_equations(weights, biases, x, y, Worked(widths=(2, 3, 1), loss="half_mse"))
    for weight, (gradient, delta) in zip(weights, found, strict=True):
        assert gradient.shape == weight.shape
        assert delta.shape == (weight.shape[0],)
        assert torch.linalg.matrix_rank(gradient) == 1
    with pytest.raises(RuntimeError):
        x[None] @ found[0][1][:, None]  # the page's x^T dL/dz1: (1x2)(3x1)


def test_a_perceptron_learns_and_and_or_but_never_xor():
    found = perceptron(Perceptron()).measures
    assert found["accuracy on AND"] == found["accuracy on OR"] == 1.0
    assert float(found["accuracy on XOR"]) <= 0.75


def test_sigmoid_and_tanh_stay_inside_open_intervals():
    z = torch.linspace(-15, 15, 301, dtype=torch.float64)
    assert torch.sigmoid(z).min() > 0
    assert torch.sigmoid(z).max() < 1
    assert torch.tanh(z).min() > -1
    assert torch.tanh(z).max() < 1


def test_without_activation_a_deep_net_is_no_better_than_a_line():
    found = curves(Activations(kinds=("tanh",), epochs=15)).measures
    assert found["accuracy on two half circles, identity"] < 0.91
    assert found["accuracy on two half circles, tanh"] > 0.93
    assert found["largest derivative, tanh"] == 1.0


def test_the_error_on_a_sine_falls_with_width_only_with_activation():
    x = torch.linspace(-3, 3, 200, dtype=torch.float64)[:, None]
    wanted = torch.sin(2 * x)

    def error(width: int, activation: str) -> float:
        model = Mlp((1,), 1, depth=1, width=width, activation=activation).double()
        initialise(model, InitConfig(kind="uniform", scale=3), activation, seed=0)
        hidden = model.layers[0](x).detach()
        hidden = torch.cat([hidden, torch.ones_like(x)], dim=1)
        readout = torch.linalg.lstsq(hidden, wanted, driver="gelsd").solution
        return float((hidden @ readout - wanted).square().mean())

    assert error(32, "tanh") < 0.1 * error(2, "tanh")
    assert error(32, "tanh") < 0.05
    assert error(32, "identity") == pytest.approx(error(2, "identity"), rel=1e-6)


def test_the_pages_squared_error_is_not_torchs():
    for outputs in (1, 2, 7):
        found = losses(Losses(outputs=outputs)).measures
        assert found["half squared norm over torch's MSELoss"] == pytest.approx(outputs / 2)
    assert found["cross-entropy of a net that knows nothing"] == pytest.approx(math.log(10))
    assert math.isfinite(float(found["cross-entropy at a logit of 1e4"]))


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 100))
def test_the_transposed_jacobian_times_a_vector_is_the_vjp(inputs, middle, seed):
    found = chain(Chain(inputs=inputs, middle=middle, seed=seed)).measures
    assert float(found["largest difference"]) < 1e-12
    assert found["numbers in the Jacobian"] == inputs * middle


def test_shapes_of_equal_size_differ_only_in_depth():
    for depth in (1, 2, 3, 5, 9):
        width = width_for(6000, depth, 40, 10)
        num_params, _ = count_params(Mlp((40,), 10, depth=depth, width=width))
        assert num_params == pytest.approx(6000, rel=0.05)
    found = depth_or_width(Depths(depths=(1, 3), epochs=2, seeds=1, params=2000))
    assert list(found.table["depth"]) == [1, 3]
    assert sizes(ShapeSizes()).measures["parameters of the figure (3-3-1)"] == 16


def test_stored_activations_grow_with_depth_and_batch():
    found = memory(Memory(depths=(1, 4, 7), width=32)).measures
    for batch_size in (16, 64):
        per_layer = found[f"floats stored per row and layer, batch {batch_size}"]
        assert per_layer == pytest.approx(32)


def test_descent_stops_and_says_why():
    found = convergence(Descent()).measures
    assert "changed by less than 1e-06" in str(found["why it stopped"])
    assert float(found["iterations"]) > 1
    assert found["final loss is at most the first"] == "True"
    assert convergence(Descent(lr=2.5)).measures["why it stopped"] == "diverged"
    assert convergence(Descent(steps=3)).measures["why it stopped"] == "3 iterations"


def test_where_descent_ends_depends_on_where_it_starts():
    found = minima(Minima())
    roots = np.roots([1, 0, -2, 0.3]).real
    for end in found.table["end"]:
        assert np.abs(roots - end).min() < 1e-3
    assert found.measures["different minima reached"] == 2


@settings(deadline=None, max_examples=20)
@given(st.floats(0.1, 50), st.floats(0.05, 3.5))
def test_descent_diverges_exactly_above_2_over_the_curvature(curvature, rate):
    if abs(rate - 2) < 1e-3 or abs(rate - 1) < 1e-9:
        return
    found = regimes(Regimes(curvature=curvature, rates=(rate,), steps=10)).table["loss"]
    expected = (1 - rate) ** (2 * (len(found) - 1))  # it ends early where the loss is lost
    assert found.iloc[-1] / found.iloc[0] == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert (found.iloc[-1] > found.iloc[0]) == (rate > 2)


def test_adam_as_printed_freezes():
    found = paths(Trajectories(kinds=("adam",), misprint=True)).measures
    assert float(found["final loss, adam"]) < 1e-6
    assert float(found["final loss, adam as printed"]) > 1
    path = misprinted_adam(0.3, Trajectories())
    first, tenth = (np.abs(path[t] - path[t - 1]).max() for t in (1, 10))
    assert tenth < 1e-3 * first


def test_adam_with_a_steady_gradient_keeps_its_step():
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer, before, steps = torch.optim.Adam([weight], lr=0.01), 0.0, []
    for _ in range(200):
        weight.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        steps.append(before - weight.item())
        before = weight.item()
    assert steps[-1] == pytest.approx(steps[0], rel=1e-6)


def test_momentum_flips_less_and_needs_fewer_steps_than_sgd():
    found = paths(Trajectories(kinds=("sgd", "momentum"))).measures
    for name in ("sign flips along the steep axis", "steps to 1% of the loss"):
        assert float(found[f"{name}, momentum"]) < float(found[f"{name}, sgd"])


def test_l2_is_weight_decay_for_sgd_but_not_for_adam():
    def end(kind: type[torch.optim.Optimizer], decay: float, penalty: float) -> float:
        w = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
        optimizer = kind([w], lr=0.1, **({"weight_decay": decay} if decay else {}))
        for _ in range(5):
            optimizer.zero_grad()
            ((w - 3).square() / 2 + penalty * w.square()).sum().backward()
            optimizer.step()
        return w.item()

    assert end(torch.optim.SGD, 0.2, 0.0) == pytest.approx(end(torch.optim.SGD, 0.0, 0.1))
    assert abs(end(torch.optim.AdamW, 0.2, 0.0) - end(torch.optim.Adam, 0.0, 0.1)) > 1e-3


def test_a_vector_through_a_layer_costs_n2_and_a_jacobian_n3():
    found = orders(Complexity(sizes=(16, 32, 64), repeats=1)).measures
    assert found["exponent of flops, vector (backpropagation)"] == pytest.approx(2)
    assert found["exponent of flops, Jacobian (brute force)"] == pytest.approx(3)
    assert found["n^2 / n^3 at n = 4096, %"] == pytest.approx(0.0244, abs=1e-4)


def test_masks_are_fresh_and_agree_on_half_of_the_units():
    found = masks(Masks(width=1024)).measures
    assert found["share kept"] == pytest.approx(0.5, abs=0.02)
    for pair in ("two steps of one epoch", "two epochs"):
        assert found[f"units on which masks agree, {pair}"] == pytest.approx(0.5, abs=0.02)
    assert masks(Masks()).measures[
        "log10 of the number of sub-models, 4096 units"
    ] == pytest.approx(1233.02, abs=0.01)


def test_many_sub_models_come_near_the_scaled_weights():
    found = ensemble(Ensemble(epochs=8, passes=64, width=64)).measures
    one, many = found["validation error, one sub-model"], found["validation error, 32 sub-models"]
    assert many < one
    assert abs(float(many) - float(found["validation error, weights scaled"])) < 0.05
    assert found["exponent of the spread in T"] == pytest.approx(-0.5, abs=0.15)
    assert found["spread on noise"] > found["spread on digits"]


def test_large_weights_explode_and_small_ones_vanish():
    found = depths(Signals()).measures
    assert float(found["spread last / first layer, relu, he × 10"]) > 1e7
    assert float(found["gradient first / last weight, tanh, xavier × 10"]) > 1e3
    assert float(found["spread last / first layer, tanh, xavier × 0.1"]) < 1e-7
    assert float(found["gradient first / last weight, sigmoid, xavier × 1"]) < 1e-5
    assert 0.1 < float(found["spread last / first layer, relu, he × 1"]) < 10


def test_a_third_of_normalised_values_lies_outside_one():
    found = one_batch(OneBatch(batch_sizes=(16, 256))).measures
    assert found["share of normalised values outside ±1"] == pytest.approx(
        1 - math.erf(1 / math.sqrt(2)), abs=0.005
    )
    assert float(found["largest difference from torch.nn.BatchNorm1d"]) < 1e-12


def test_the_running_mean_is_torchs_with_momentum_one_minus_decay():
    found = running(Running()).measures
    for decay in ("0.9", "0.99"):
        assert float(found[f"difference from torch, decay {decay}"]) < 1e-12
    expected = math.log(0.1) / math.log(0.99)
    batches = float(found["batches to follow 90 % of a jump, decay 0.99"])
    assert batches == pytest.approx(expected, rel=0.1)


def test_each_doubling_of_alphagos_gpus_brings_less():
    found = alphago(Hardware(lanes=(1, 2), epochs=1))
    gains = found.table["elo_per_doubling"].dropna()
    assert list(gains) == sorted(gains, reverse=True)
    assert len(found.table[found.table["what"] == "our packs"]) == 2


def test_a_decoder_has_about_12_l_d2_parameters():
    ratios = decoders(Sizes()).table["ratio"].dropna()
    assert ((ratios > 0.85) & (ratios < 1.05)).all()


def test_operations_counted_two_ways_agree_within_three():
    found = compute(Compute()).measures
    assert found["FLOPs of GPT-3 by 6ND"] == pytest.approx(3.15e23)
    for model in ("GPT-3", "PaLM"):
        assert 1 / 3 < float(found[f"hardware over 6ND, {model}"]) < 3
    assert float(found["FLOPs of GPT-4 (estimate) by hardware"]) == pytest.approx(2.4e25, rel=0.05)


def test_a_search_is_five_cars_and_gpt_3_nearly_ten(monkeypatch):
    monkeypatch.delenv("ISOFLOP_COUNTRY", raising=False)
    found = carbon(Carbon(kwh=2.0, g_per_kwh=100)).measures
    assert found["search over car lifetime"] == pytest.approx(4.97, abs=0.01)
    assert found["search, tonnes"] == pytest.approx(284, abs=0.5)
    assert found["GPT-3 over car lifetime"] == pytest.approx(9.7, abs=0.1)
    assert found["yours, kgCO2e"] == pytest.approx(0.2)
