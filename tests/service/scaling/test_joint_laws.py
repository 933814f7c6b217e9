import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_surfaces import HOFFMANN, best_size
from scipy.optimize import minimize_scalar

from service.scaling.joint_laws import best_params, check_law, effective_tokens, predict_loss
from trainers.errors import ScalingError

KAPLAN = {"Nc": 8.8e13, "Dc": 5.4e13, "alpha": 0.076, "beta": 0.095}
REPEATED = {**HOFFMANN, "repeats_decay": 15.39}


def searched(law, values, flops, unique=None):
    """The best size by search over log N alone."""

    def loss(log_params):
        size = np.exp(log_params)
        return float(predict_loss(law, values, size, flops / (6 * size), unique))

    return np.exp(
        minimize_scalar(loss, bounds=(5, 45), method="bounded", options={"xatol": 1e-10}).x
    )


@settings(deadline=None, max_examples=25)
@given(
    alpha=st.floats(0.1, 1.0),
    beta=st.floats(0.1, 1.0),
    log_a=st.floats(2, 10),
    log_b=st.floats(2, 10),
    log_flops=st.floats(35, 58),
)
def test_closed_form_optimum_is_what_a_search_finds(alpha, beta, log_a, log_b, log_flops):
    values = {"E": 1.0, "A": np.exp(log_a), "B": np.exp(log_b), "alpha": alpha, "beta": beta}
    flops = np.exp(log_flops)
    best = float(best_params("chinchilla", values, flops, 6.0))
    lowest = float(predict_loss("chinchilla", values, best, flops / (6 * best)))
    for factor in (0.9, 0.99, 1.01, 1.1):
        size = best * factor
        assert lowest <= float(predict_loss("chinchilla", values, size, flops / (6 * size)))
    assert best == pytest.approx(best_size(flops, values), rel=1e-9)


@pytest.mark.parametrize("flops", [1e18, 1e21, 1e25])
def test_kaplans_optimum_is_what_a_search_finds(flops):
    best = float(best_params("kaplan", KAPLAN, flops, 6.0))
    assert best == pytest.approx(searched("kaplan", KAPLAN, flops), rel=1e-4)
    doubled = float(best_params("kaplan", KAPLAN, 2 * flops, 6.0))
    assert np.log2(doubled / best) == pytest.approx(0.095 / (0.076 + 0.095))


def test_kaplan_with_endless_data_is_the_law_of_size_alone():
    """Kaplan et al. 2020, eq. 1.1: L(N) = (Nc / N)^alpha."""
    loss = predict_loss("kaplan", KAPLAN, 1e9, 1e30)
    assert float(loss) == pytest.approx((8.8e13 / 1e9) ** 0.076, rel=1e-6)


@settings(deadline=None, max_examples=50)
@given(log_unique=st.floats(5, 25), repeats=st.floats(0.01, 1e4), decay=st.floats(0.1, 100))
def test_effective_tokens_lie_between_unique_and_seen_and_never_exceed_their_limit(
    log_unique, repeats, decay
):
    unique = np.exp(log_unique)
    seen = unique * (1 + repeats)
    effective = float(effective_tokens(seen, unique, decay))
    assert unique < effective <= seen
    assert effective <= unique * (1 + decay) * (1 + 1e-12)


def test_effective_tokens_of_the_paper():
    """Muennighoff et al. 2023: four epochs are nearly as good as fresh data, R* = 15.39."""
    assert float(effective_tokens(4.0, 1.0, 15.39)) == pytest.approx(
        1 + 15.39 * (1 - np.exp(-3 / 15.39))
    )
    assert float(effective_tokens(4.0, 1.0, 1e12)) == pytest.approx(4.0, rel=1e-6)
    assert float(effective_tokens(3.0, 10.0, 15.39)) == 3.0


def test_a_limit_on_unique_tokens_asks_for_a_larger_model():
    unlimited = float(best_params("repeated_data", REPEATED, 1e21, 6.0))
    limited = float(best_params("repeated_data", REPEATED, 1e21, 6.0, unique_tokens=1e9))
    assert limited > 1.2 * unlimited
    assert limited == pytest.approx(searched("repeated_data", REPEATED, 1e21, 1e9), rel=1e-3)
    plenty = float(best_params("repeated_data", REPEATED, 1e21, 6.0, unique_tokens=1e15))
    assert plenty == pytest.approx(unlimited, rel=1e-9)


def test_unique_tokens_are_refused_by_a_law_that_does_not_read_them():
    with pytest.raises(ScalingError, match="`chinchilla` does not read unique tokens; fit the law"):
        predict_loss("chinchilla", HOFFMANN, 1e9, 1e10, 1e9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": -0.1}, "alpha = -0.1"),
        ({"beta": 0.0}, "beta = 0"),
        ({"A": 0.0}, "A = 0"),
    ],
)
def test_no_optimum_where_the_loss_does_not_fall_with_both(change, message):
    with pytest.raises(ScalingError, match=message):
        best_params("chinchilla", {**HOFFMANN, **change}, 1e20, 6.0)


def test_a_misspelt_law_is_told_the_nearest():
    with pytest.raises(ScalingError, match="did you mean `chinchilla`"):
        check_law("chinchila")


@pytest.mark.parametrize("law", [3, None, ["chinchilla"]])
def test_a_law_is_a_name(law):
    with pytest.raises(
        ScalingError, match=r"must be one of chinchilla, .*got `.*`; (valid|did you)"
    ):
        check_law(law)
