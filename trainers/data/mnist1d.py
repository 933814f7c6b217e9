"""MNIST-1D, made from a seed: ten digit-like curves, moved and blurred beyond easy recognition.

The task and its constants are those of Greydanus & Kobak, "Scaling down deep learning with
MNIST-1D" (ICML 2024; the authors' generator is under Apache-2.0). This generator is our own:
it draws from a `numpy.random.Generator` rather than numpy's global state, all rows at once, so the
rows differ from the authors' file while their distribution is the same.

Shapes: N rows, T = 12 points of a template, P = 72 points after padding, 40 points in the end.
"""

from __future__ import annotations

import numpy as np

from trainers.data.source import Source

NUM_TRAIN, NUM_TEST = 4000, 1000
LENGTH = 40
TEMPLATE_LENGTH = 12
MIN_PADDING, MAX_PADDING = 36, 60
SCALE_COEFF = 0.4
"""Amplitudes vary by +- half of it."""
MAX_TRANSLATION = 48
CORRELATED_NOISE = 0.25
NOISE_WIDTH = 2.0
"""Standard deviation, in points, of the Gaussian that correlates the noise."""
INDEPENDENT_NOISE = 0.02
SHEAR_SCALE = 0.75
SEED = 42

TEMPLATES = np.array(
    [
        [5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5],
        [5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5],
        [5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5],
        [5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5],
        [5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5],
        [5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5],
        [5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5],
        [5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5],
        [5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5],
    ]
)
"""One curve per digit [10, T], as published."""


def make_mnist1d(num_train: int = NUM_TRAIN, num_test: int = NUM_TEST, seed: int = SEED) -> Source:
    """Make the rows [N, 1, 40]: the same for the same seed, and the classes equally frequent."""
    rng = np.random.Generator(np.random.PCG64(seed))
    y = rng.permutation(np.arange(num_train + num_test) % len(TEMPLATES))
    x = _padded(_normalised_templates()[y], rng)
    x *= 1 + SCALE_COEFF * (rng.random((len(x), 1)) - 0.5)
    x = _translated(x, rng)
    x = _noisy(x, rng)
    x -= SHEAR_SCALE * (rng.random((len(x), 1)) - 0.5) * np.linspace(-0.5, 0.5, x.shape[1])
    x = _resampled(x, LENGTH)
    x = (x - x.mean()) / x.std()
    x = x.astype(np.float32)[:, None, :]
    return Source(
        x=x[:num_train],
        y=y[:num_train],
        x_test=x[num_train:],
        y_test=y[num_train:],
        task="classification",
        class_names=tuple("0123456789"),
        notes={"origin": f"MNIST-1D after Greydanus & Kobak (2024), own generator, seed {seed}"},
    )


def _normalised_templates() -> np.ndarray:
    """Return the templates with unit variance / 36, starting and ending at 0: [10, T]."""
    x = TEMPLATES - TEMPLATES.mean(axis=1, keepdims=True)
    x = x / x.std(axis=1, keepdims=True)
    return np.asarray((x - x[:, :1]) / 6)


def _padded(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Append a random number of zeros to each row, then stretch all to P points."""
    num_points = TEMPLATE_LENGTH + MAX_PADDING
    paddings = rng.integers(MIN_PADDING, MAX_PADDING, size=len(x), endpoint=True)
    stretched = np.empty((len(x), num_points))
    for padding in range(MIN_PADDING, MAX_PADDING + 1):
        chosen = paddings == padding
        # An offset of 1e-8 tells a template's own zeros from padding, which is what gets noise.
        rows = np.pad(x[chosen] + 1e-8, ((0, 0), (0, padding)))
        stretched[chosen] = _resampled(rows, num_points)
    return stretched


def _translated(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate each row to the right by 0 to MAX_TRANSLATION - 1 points."""
    shift = rng.integers(MAX_TRANSLATION, size=(len(x), 1))
    return np.take_along_axis(x, (np.arange(x.shape[1]) - shift) % x.shape[1], axis=1)


def _noisy(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill the padding with smooth noise, and add a little independent noise everywhere."""
    from scipy.ndimage import gaussian_filter1d  # slow to import, and only this needs it

    smooth = gaussian_filter1d(CORRELATED_NOISE * rng.standard_normal(x.shape), NOISE_WIDTH, axis=1)
    filled = np.where(x != 0, x, smooth)
    return np.asarray(filled + INDEPENDENT_NOISE * rng.standard_normal(x.shape))


def _resampled(x: np.ndarray, num_points: int) -> np.ndarray:
    """Interpolate rows [N, P] linearly at `num_points` equally spaced points."""
    position = np.linspace(0, x.shape[1] - 1, num_points)
    left = np.minimum(position.astype(int), x.shape[1] - 2)
    weight = position - left
    return np.asarray(x[:, left] * (1 - weight) + x[:, left + 1] * weight)
