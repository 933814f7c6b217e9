"""Studies of a ledger: points, tuning and verification read off it, and outputs written for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from service.ledger import Ledger
from service.scaling.fits import LAWS
from service.scaling.fitted import StudyFit
from service.scaling.fitting import fit_study
from service.scaling.points import Points
from service.scaling.running import study_record
from service.scaling.study_points import study_points, tuning_frame
from service.scaling.study_spec import StudySpec
from service.scaling.verification import Predict, Prediction, verifications
from trainers.errors import ScalingError


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What the ledger holds of one study."""

    study_id: str
    ledger_url: str
    spec: StudySpec
    points: Points
    tuning: pd.DataFrame
    verifications: tuple[Mapping[str, Any], ...]
    out_dir: Path


def read_recorded(ledger: Ledger, study_id: str) -> Recorded:
    """Read a study off its ledger.

    Raises:
        LedgerError: there is no such study.
        ScalingError: no point has been trained yet.

    """
    record = study_record(ledger, study_id)
    return Recorded(
        study_id=study_id,
        ledger_url=ledger.url,
        spec=StudySpec.from_mapping(dict(record.spec)),
        points=study_points(ledger, study_id),
        tuning=tuning_frame(ledger, study_id),
        verifications=tuple(found.to_mapping() for found in verifications(ledger, study_id)),
        out_dir=Path(record.out_dir or study_id),
    )


def joint_law(spec: StudySpec) -> str:
    """Return the first joint law that a spec names; `chinchilla` where it names none."""
    return next((law for law in spec.fit.laws if law in LAWS), "chinchilla")


def predictor(spec: StudySpec) -> Predict:
    """Return what predicts a larger budget for `verify`: the spec's law, conformal intervals.

    The function raises ScalingError where too few budgets are there to calibrate an interval.
    """
    fits: dict[str, StudyFit] = {}

    def predict(points: Points, flops: float, params: float | None) -> Prediction:
        key = str(points.frame["by"].iloc[0])
        if key not in fits:
            fits[key] = fit_study(points, joint_law(spec), confidence=spec.fit.confidence)
        fit = fits[key]
        if params is None:
            params = float(fit.optimum(np.array([flops]))["params"].iloc[0])
        place = np.array([params]), np.array([flops / (fit.flops_per_param_token * params)])
        ends = fit.loss_interval(*place)
        if ends is None:
            raise ScalingError(
                "a prediction needs an interval calibrated on larger budgets held out, but "
                f"the study's {points.frame['flops'].nunique()} budgets allow none; add budgets"
            )
        return Prediction(
            params=params,
            loss=float(fit.joint.predict(*place)[0]),
            low=float(ends[0][0]),
            high=float(ends[1][0]),
            method=f"{fit.law} by {fit.joint.method}, conformal interval",
        )

    return predict
