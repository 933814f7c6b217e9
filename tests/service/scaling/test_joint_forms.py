import numpy as np
import pandas as pd
import pytest
from loss_surfaces import HOFFMANN, chinchilla_points, grid, points_of

from service.scaling.descent import derivatives, descend, huber
from service.scaling.design import design_of
from service.scaling.joint_forms import FORMS, ChinchillaForm
from service.scaling.joint_laws import LAWS, predict_loss

VALUES = {
    "chinchilla": HOFFMANN,
    "repeated_data": {**HOFFMANN, "repeats_decay": 5.0},
    "kaplan": {"Nc": 8.8e13, "Dc": 5.4e13, "alpha": 0.076, "beta": 0.095},
}


@pytest.fixture(params=LAWS)
def case(request):
    """A law's form and design over points whose tokens are partly repeated."""
    law = request.param
    params, tokens = grid()
    unique = np.minimum(tokens, 3e10)
    limit = unique if law == "repeated_data" else None
    loss = predict_loss(law, VALUES[law], params, tokens, limit)
    loss = loss * np.exp(0.01 * np.random.default_rng(0).standard_normal(len(loss)))
    points = points_of(pd.DataFrame({"N": params, "D": tokens, "L": loss, "unique": unique}))
    design = design_of(points, law, "unique" if law == "repeated_data" else None)
    return law, FORMS[law](design), design


def test_a_form_predicts_what_its_law_says(case):
    law, form, design = case
    predicted, _ = form.log_loss(form.theta(VALUES[law])[None])
    params = np.exp(design.log_params + design.mean_log_params)
    tokens = np.exp(design.log_tokens + design.mean_log_tokens)
    unique = None
    if law == "repeated_data":
        unique = np.exp(design.log_unique + design.mean_log_tokens)
    expected = predict_loss(law, VALUES[law], params, tokens, unique)
    np.testing.assert_allclose(np.exp(predicted[0]), expected, rtol=1e-12)


def test_coordinates_and_reported_parameters_turn_into_each_other(case):
    law, form, _ = case
    back = form.values(form.theta(VALUES[law])[None])
    assert {name: value[0] for name, value in back.items()} == pytest.approx(VALUES[law])


def test_derivatives_are_those_of_finite_differences(case):
    """Delta is large here, so that the objective is smooth."""
    law, form, design = case
    rng = np.random.default_rng(1)
    theta = form.theta(VALUES[law]) + 0.1 * rng.standard_normal(form.num_free)
    weight = rng.uniform(0.5, 2.0, design.num_points)

    def objective(at):
        return huber(form.log_loss(at[None])[0][0] - design.log_loss, weight, 10.0)

    def slope_and_bend(at):
        predicted, gradient = form.log_loss(at[None])
        residual = predicted - design.log_loss
        slope, bend = derivatives(form, at[None], predicted, gradient, residual, weight, 10.0)
        return slope[0], bend[0]

    slope, bend = slope_and_bend(theta)
    step = 1e-6
    for k, unit in enumerate(step * np.eye(form.num_free)):
        numeric = (objective(theta + unit) - objective(theta - unit)) / (2 * step)
        assert slope[k] == pytest.approx(numeric, rel=1e-5, abs=1e-8)
        turned = (slope_and_bend(theta + unit)[0] - slope_and_bend(theta - unit)[0]) / (2 * step)
        np.testing.assert_allclose(bend[k], turned, rtol=1e-5, atol=1e-7)


def test_a_batch_ends_where_each_problem_ends_alone(case):
    _, form, design = case
    starts = form.starts(4, np.random.default_rng(2))
    together = descend(form, design.log_loss, starts, design.weight, 1e-3)
    for m, start in enumerate(starts):
        alone = descend(form, design.log_loss, start[None], design.weight, 1e-3)
        assert alone.objective[0] == pytest.approx(together.objective[m], rel=1e-9)


def test_the_published_grid_has_4500_starts():
    form = ChinchillaForm(design_of(chinchilla_points(), "chinchilla", None))
    starts = form.published_grid()
    values = form.values(starts)
    assert starts.shape == (4500, 5)
    assert len(np.unique(starts, axis=0)) == 4500
    np.testing.assert_allclose(np.unique(np.round(np.log(values["A"]), 6)), np.arange(0, 26, 5))
    np.testing.assert_allclose(np.unique(np.round(np.log(values["E"]), 6)), np.arange(-1, 1.1, 0.5))


def test_huber_is_quadratic_within_delta_and_linear_beyond():
    residual = np.array([0.0, 0.5, -1.0, 3.0, -3.0])
    expected = [0.0, 0.125, 0.5, 2.5, 2.5]
    for one, value in zip(residual, expected, strict=True):
        assert huber(np.array([one]), np.array([2.0]), 1.0) == pytest.approx(2 * value)
