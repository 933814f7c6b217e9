import numpy as np
import pytest
from loss_surfaces import chinchilla_points

from service.scaling import leverage as module
from service.scaling.fits import fit_joint, leverage


@pytest.fixture
def points():
    """Points of a known law, with one whose loss is 10 % too high."""
    points = chinchilla_points(noise=0.01)
    points.frame.loc[5, "loss"] *= 1.1
    return points


def test_leaving_out_is_fitting_the_rest(points):
    fit = fit_joint(points)
    table = leverage(points, fit)
    for row in (0, 5, 20):
        rest = fit_joint(points.where(np.arange(len(points)) != row))
        for name in ("a", "alpha", "beta", "E"):
            change = rest.params[name] - fit.params[name]
            assert table[f"d{name}"][row] == pytest.approx(change, abs=2e-6)
    assert table["source_line"].tolist() == points.frame["source_line"].tolist()


def test_one_step_tells_nearly_the_same(points, monkeypatch):
    fit = fit_joint(points, delta=0.02)
    exact = leverage(points, fit)
    monkeypatch.setattr(module, "EXACT_POINTS", 10)
    step = leverage(points, fit)
    assert np.corrcoef(exact["dalpha"], step["dalpha"])[0, 1] > 0.95
    assert step["dalpha"].std() == pytest.approx(exact["dalpha"].std(), rel=0.3)


def test_kaplans_law_has_no_floor_to_move(points):
    table = leverage(points, fit_joint(points, "kaplan"))
    assert list(table.columns) == ["row", "run", "source_line", "da", "dalpha", "dbeta"]
