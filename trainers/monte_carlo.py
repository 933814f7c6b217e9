"""Monte Carlo dropout: dropout stays on at prediction, and several passes say how sure a net is.

Lecture, p. 48; Gal & Ghahramani, "Dropout as a Bayesian approximation" (ICML 2016). Calibration:
Guo et al., "On calibration of modern neural networks" (ICML 2017).
Shapes: N rows, C outputs (classes or target columns), T passes, M bins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from trainers.errors import ConfigError
from trainers.models.dropout import LaneDropout


@dataclass(frozen=True, kw_only=True, eq=False)
class Spread:
    """What T passes with dropout on gave for N rows."""

    labels: np.ndarray
    """[N] the class of the largest mean, or the mean itself: [N] or [N, K], as `predict`."""
    mean: np.ndarray
    """[N, C] class probabilities, or numbers in their own units."""
    std: np.ndarray
    """[N, C] standard deviation over passes: how far one pass strays."""
    passes: int

    @property
    def standard_error(self) -> np.ndarray:
        """[N, C] of the mean: it falls as 1 / sqrt(T)."""
        return self.std / math.sqrt(self.passes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """Whether a net that says 80 % is right in 80 % of such cases; arrays are [M]."""

    expected_error: float
    """Mean over rows of |accuracy - confidence| of the row's bin: 0 is calibrated."""
    confidence: np.ndarray
    """Mean probability of the predicted class; NaN in an empty bin."""
    accuracy: np.ndarray
    num_rows: np.ndarray


def calibration(probabilities: np.ndarray, classes: np.ndarray, num_bins: int = 15) -> Calibration:
    """Sort rows by the probability of their predicted class into equal bins, and compare.

    Args:
        probabilities: [N, C], rows sum to 1.
        classes: [N] true classes, as indices.
        num_bins: M.

    """
    confidence = probabilities.max(axis=1)
    hit = probabilities.argmax(axis=1) == classes
    places = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    num_rows = np.bincount(places, minlength=num_bins)
    with np.errstate(invalid="ignore"):
        means = np.bincount(places, confidence, num_bins) / num_rows
        accuracy = np.bincount(places, hit, num_bins) / num_rows
    gaps = np.abs(accuracy - means)
    return Calibration(
        expected_error=float(np.nansum(gaps * num_rows) / len(classes)),
        confidence=means,
        accuracy=accuracy,
        num_rows=num_rows,
    )


def check_drops(module: nn.Module, passes: int) -> None:
    """Raise ConfigError where passes could not differ, or one pass could not show a spread."""
    if passes < 2:
        raise ConfigError(f"a spread needs at least 2 passes, but got {passes}; try 50")
    rates = [part.p for part in _dropouts(module)]
    if not any(rates):
        raise ConfigError(
            "Monte Carlo dropout needs a model that drops units, but this one's dropout rates are "
            f"{sorted(set(rates)) or 'none'}; train one with `model.dropout` above 0, or predict "
            "without `passes`"
        )


@contextmanager
def dropping(module: nn.Module, seed: int) -> Iterator[None]:
    """Keep dropout on inside, and all else (normalisation) in evaluation.

    Noise comes from torch's generator, set to `seed` inside and given back as it was.
    """
    module.eval()
    parts = _dropouts(module)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for part in parts:
            part.train()
        try:
            yield
        finally:
            for part in parts:
                part.eval()


def mean_and_std(passes: Iterator[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation [N, C] over passes, each a float64 [N, C].

    Sums are taken around the first pass, so that a small spread on a large mean keeps its digits.
    """
    first = next(passes)
    total, squares, count = torch.zeros_like(first), torch.zeros_like(first), 1
    for outputs in passes:
        total += outputs - first
        squares += (outputs - first).square()
        count += 1
    variance = (squares - total.square() / count) / (count - 1)
    return (first + total / count).numpy(), variance.clamp(min=0).sqrt().numpy()


def _dropouts(module: nn.Module) -> list[LaneDropout | _DropoutNd]:
    return [part for part in module.modules() if isinstance(part, LaneDropout | _DropoutNd)]
