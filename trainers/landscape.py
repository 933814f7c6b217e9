"""The loss around a trained net, along two random directions (lecture, p. 35).

Li, Xu, Taylor, Studer & Goldstein, "Visualizing the loss landscape of neural nets" (NeurIPS 2018).
Directions are normalised filter by filter: a net whose weights are ten times larger, and whose
next layer undoes that, computes the same function and gets the same picture.
Shapes: P parameters, S grid points on a side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.lanes.flat import FlatLayout
from trainers.lanes.many import measure_rows

LOW_WITHIN = 0.1
"""A point is low where its loss is at most this much above the centre's."""
_ROUNDING = 1e-6
"""Curvatures and falls smaller than this share of the largest one are rounding."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """L(alpha, beta) = loss at weights + alpha * delta + beta * eta."""

    axis: np.ndarray
    """[S] the values of alpha, and of beta; 0 is in the middle."""
    loss: np.ndarray
    """[S, S]; row i has beta = axis[i], column j has alpha = axis[j]."""
    seed: int
    """Of the directions."""

    @property
    def centre(self) -> float:
        """The trained net's own loss, L(0, 0)."""
        middle = len(self.axis) // 2
        return float(self.loss[middle, middle])


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How rough a surface is; every number is a share, from 0 to 1."""

    negative_curvature: float
    """Of inner grid points whose 2 x 2 Hessian has a negative eigenvalue; a bowl has 0."""
    monotone_rays: float
    """Of rays along alpha, outwards from alpha = 0 for each beta, that never fall; a bowl whose
    axes are the directions has 1."""
    low_area: float
    """Of grid points within `LOW_WITHIN` above L(0, 0)."""


def filter_normalised(layout: FlatLayout, row: Tensor, seed: int) -> Tensor:
    """Return a direction [P]: N(0, 1), each filter scaled to the norm of the weights' own.

    A filter is one row of a weight tensor: a neuron's weights, or an output channel's kernel.
    Biases and normalisation stay where they are, so theirs is 0.
    """
    noise = torch.randn(len(row), generator=torch.Generator().manual_seed(seed), dtype=row.dtype)
    direction = torch.zeros_like(row)
    weights, drawn = layout.views(row[None]), layout.views(noise[None])
    for name, view in layout.views(direction[None]).items():
        if layout.by_name[name].decays:
            filters, random = weights[name][0].flatten(1), drawn[name][0].flatten(1)
            norms = torch.linalg.vector_norm(filters, dim=1, keepdim=True)
            random = random / torch.linalg.vector_norm(random, dim=1, keepdim=True)
            view[0].copy_((random * norms).view(view.shape[1:]))
    return direction


def loss_surface(
    module: nn.Module,
    config: TrialConfig,
    dataset: Dataset,
    *,
    size: int = 21,
    span: float = 1.0,
    seed: int = 0,
    num_rows: int | None = None,
    part: Literal["train", "val"] = "train",
) -> Surface:
    """Measure the loss on a grid around a trained net; grid points are lanes, chunk by chunk.

    Args:
        module: The trained model, in the dtype it was trained in; not changed.
        config: Its configuration.
        dataset: Its data; the loss is the data's alone, without penalties, in evaluation.
        size: S, odd, so that the net itself is a grid point.
        span: The grid reaches from -span to span.
        seed: Of the two directions.
        num_rows: The first so many rows; None: all.
        part: train (as in the paper) or val.

    Raises:
        ConfigError: for a grid without a middle, or a span that is not positive.

    """
    if size < 3 or size % 2 == 0:
        raise ConfigError(
            "a landscape's size must be odd and at least 3, so that the net itself is a grid "
            f"point, but got {size}; try {max(3, size + 1)}"
        )
    if not span > 0:
        raise ConfigError(f"a landscape's span must be > 0, but got {span}; try 1")
    layout = FlatLayout.of(module)
    row = torch.zeros(layout.size, dtype=next(module.parameters()).dtype)
    layout.read(module, row)
    delta, eta = (filter_normalised(layout, row, 2 * seed + k) for k in (0, 1))
    axis = np.linspace(-span, span, size)
    axis[size // 2] = 0.0

    def row_at(place: int) -> Tensor:
        return row + float(axis[place % size]) * delta + float(axis[place // size]) * eta

    losses = measure_rows(row_at, size * size, module, config, dataset, part, num_rows)["loss"]
    return Surface(axis=axis, loss=np.array(losses).reshape(size, size), seed=seed)


def scores(surface: Surface) -> Scores:
    """Score a surface; points whose loss is not finite are low nowhere and curved nowhere."""
    loss, middle = surface.loss, len(surface.axis) // 2
    with np.errstate(invalid="ignore"):
        lowest = _smaller_eigenvalue(loss)
        largest = np.nanmax(np.abs(lowest), initial=0.0, where=np.isfinite(lowest))
        outwards = np.concatenate(
            [np.diff(loss[:, middle:], axis=1), np.diff(loss[:, middle::-1], axis=1)]
        )  # [2 S, S // 2]
        scale = np.nanmax(np.abs(outwards), initial=0.0, where=np.isfinite(outwards))
        return Scores(
            negative_curvature=float((lowest < -_ROUNDING * largest).mean()),
            monotone_rays=float((outwards >= -_ROUNDING * scale).all(axis=1).mean()),
            low_area=float((loss <= surface.centre + LOW_WITHIN).mean()),
        )


def _smaller_eigenvalue(loss: np.ndarray) -> np.ndarray:
    """Return the Hessian's smaller eigenvalue at inner points, [S - 2, S - 2], per grid step^2."""
    inner = loss[1:-1, 1:-1]
    along = loss[1:-1, 2:] - 2 * inner + loss[1:-1, :-2]
    across = loss[2:, 1:-1] - 2 * inner + loss[:-2, 1:-1]
    mixed = (loss[2:, 2:] - loss[2:, :-2] - loss[:-2, 2:] + loss[:-2, :-2]) / 4
    smaller: np.ndarray = (along + across) / 2 - np.hypot((along - across) / 2, mixed)
    return smaller
