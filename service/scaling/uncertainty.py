"""Uncertainty that was measured: held-out errors, intervals from them, and choices that matter.

heldout.py     fit below a budget, predict above it        Heldout, rolling_origin
conformal.py   prediction intervals, with their coverage   Conformal, predict_with_interval
spread.py      the unit in which errors are measured
"""

from service.scaling.conformal import Conformal, predict_with_interval
from service.scaling.heldout import Heldout, Predictor, rolling_origin
from service.scaling.multiverse import multiverse

__all__ = [
    "Conformal",
    "Heldout",
    "Predictor",
    "multiverse",
    "predict_with_interval",
    "rolling_origin",
]
