"""Fit a law, and see how it does on larger budgets that were held out."""

from __future__ import annotations

from service.scaling.fits import fit_joint
from service.scaling.fitted import StudyFit
from service.scaling.joint_fit import JointFit
from service.scaling.points import Points
from service.scaling.uncertainty import Conformal, rolling_origin
from trainers.errors import ScalingError


def fit_study(
    points: Points,
    law: str = "chinchilla",
    *,
    method: str = "log_huber_lbfgsb",
    bootstrap: int = 0,
    unique_tokens: str | None = None,
    confidence: float = 0.9,
    seed: int = 0,
) -> StudyFit:
    """Fit a joint law to the points of one recipe, and calibrate its predictions.

    Args:
        points: of one recipe.
        law: see `fits.LAWS`.
        method: see `fits.METHODS`.
        unique_tokens: the column of unique tokens, for `repeated_data`.
        bootstrap: resamples of the runs for the parameters' intervals; 0: none.
        confidence: of intervals.
        seed: of the resamples and of the starts.

    Raises:
        ScalingError: the law or method is unknown, or there are too few points.

    """

    def fit(some: Points) -> JointFit:
        return fit_joint(some, law, method=method, unique_tokens=unique_tokens, seed=seed)

    joint = fit_joint(
        points, law, method=method, unique_tokens=unique_tokens, bootstrap=bootstrap, seed=seed
    )
    try:
        heldout = rolling_origin(points, fit)
    except ScalingError:
        return StudyFit(points=points, joint=joint, confidence=confidence, heldout=None,
                        conformal=None)  # fmt: skip
    return StudyFit(
        points=points,
        joint=joint,
        confidence=confidence,
        heldout=heldout,
        conformal=Conformal.from_heldout(heldout, confidence),
    )
