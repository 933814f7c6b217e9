"""Studies of one variable: gains per doubling, honest about what was checked."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from service import CurveStudy
from service.scaling.curve_forecast import forecast
from trainers.errors import ConfigError, DataError, ScalingError

SCHEMA = json.loads((files("service.scaling.report") / "study.schema.json").read_text())
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
WORKERS = np.array([1.0, 2, 4, 8, 16, 32])


def amdahl(workers, serial=0.1):
    """Speed-up where a tenth of the work cannot be shared (Amdahl 1967)."""
    return 1.0 / (serial + (1.0 - serial) / workers)


def test_throughput_over_workers_has_its_gain_per_doubling():
    frame = pd.DataFrame({"workers": WORKERS, "trials_per_s": amdahl(WORKERS)})
    study = CurveStudy(frame, x="workers", y="trials_per_s", increasing=True)
    curve = study.curves[0]
    expected = np.diff(amdahl(WORKERS))
    assert curve.gains["gain_per_doubling"].to_numpy() == pytest.approx(expected)
    assert curve.next_gain == pytest.approx(amdahl(64) - amdahl(32), rel=0.25)
    assert curve.judged
    assert "expected of the next" in study.sentence
    assert study.predict(64.0) == pytest.approx(amdahl(64), rel=0.05)
    jsonschema.validate(study.record(), SCHEMA)


def test_groups_have_laws_of_their_own_in_any_order_of_rows():
    frame = pd.concat(
        [pd.DataFrame({"x": WORKERS, "y": amdahl(WORKERS, serial), "kind": name})
         for name, serial in (("a", 0.1), ("b", 0.3))]
    )  # fmt: skip
    study = CurveStudy(frame.sample(frac=1, random_state=0), x="x", y="y", by="kind",
                       increasing=True)  # fmt: skip
    found = {curve.by: curve for curve in study.curves}
    assert set(found) == {"a", "b"}
    assert found["a"].next_gain > found["b"].next_gain


def test_too_few_values_are_drawn_and_said_not_to_be_checked():
    """AlphaGo on one machine, Silver et al. 2016: a power law is worse than the last value."""
    frame = pd.DataFrame({"x": WORKERS[:4], "y": [2181, 2738, 2850, 2890]})
    study = CurveStudy(frame, x="x", y="y", increasing=True)
    assert not study.curves[0].judged
    assert 0 < study.curves[0].next_gain < 40
    assert "not checked" in study.sentence


@pytest.mark.skipif(not SHARED.exists(), reason="published figures are not beside the repository")
def test_alphagos_gains_per_doubling_are_the_published_ones():
    """Silver et al. 2016, hardware table; Elo on one machine, and on many."""
    study = CurveStudy.from_csv(
        SHARED / "alphago_hardware_elo.csv", x="gpus", y="elo", by="configuration", increasing=True
    )
    gains = {curve.by: curve.gains["gain_per_doubling"].round().tolist() for curve in study.curves}
    assert gains == {"Single": [557, 112, 40], "Distributed": [176, 94, 42]}
    assert all(0 < curve.next_gain < 42 for curve in study.curves)


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        ({}, {"y": "z"}, DataError, "no column `z`"),
        ({}, {"by": "kin"}, DataError, "no column `kin`"),
        ({"x": [0.0] * 6}, {}, DataError, "positive and finite"),
        ({"y": [np.nan] * 6}, {}, DataError, "lines 2, 3, 4, 5, 6"),
        ({"y": ["a"] * 6}, {}, DataError, "finite"),
        ({"x": [1.0] * 6}, {}, ScalingError, "different x"),
        ({"x": [], "y": []}, {}, DataError, "none is left"),
    ],
)
def test_bad_tables_are_refused(change, options, error, message):
    frame = pd.DataFrame({"x": WORKERS, "y": WORKERS, **change} if "x" not in change or change["x"]
                         else change)  # fmt: skip
    with pytest.raises(error, match=message):
        CurveStudy(frame, **{"x": "x", "y": "y", **options})


def test_without_enough_held_out_there_is_no_interval_and_it_says_why():
    study = CurveStudy(pd.DataFrame({"x": [1, 2, 4, 8], "y": [9.0, 5.0, 3.0, 2.0]}), x="x", y="y")
    row = forecast(study, [16]).iloc[0]
    assert np.isnan(row["low"])
    assert row["note"].startswith("no interval: holding larger x out needs at least 2 cuts")
    assert (row["naive"], row["law"]) == (2.0, study.curves[0].fit.law)


def test_bad_questions_are_refused():
    study = CurveStudy(pd.DataFrame({"x": WORKERS, "y": amdahl(WORKERS)}), x="x", y="y",
                       increasing=True)  # fmt: skip
    with pytest.raises(ConfigError, match="no group"):
        study.predict(3.0, by="a")
    with pytest.raises(ConfigError, match="positive"):
        study.predict(-3.0)
