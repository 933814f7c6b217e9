"""Pictures of loss landscapes by matplotlib: contours from above, and the surface itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from service.report.charts.base import COLOURS
from trainers.landscape import Surface

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SIDE_INCHES = 4.2
NUM_LEVELS = 24


def draw_surfaces(surfaces: Mapping[str, Surface], *, dpi: int = 160) -> Figure:
    """Draw each surface twice, contours above and the surface below, all on one scale of losses.

    Args:
        surfaces: By the title each is drawn under.
        dpi: Dots per inch.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = COLOURS["light"]
    size = (SIDE_INCHES * len(surfaces), 2 * SIDE_INCHES)
    figure = Figure(figsize=size, dpi=dpi, facecolor=colours["panel"], layout="constrained")
    FigureCanvasAgg(figure)
    logs = {name: _log_loss(surface) for name, surface in surfaces.items()}
    lowest = min(float(heights.min()) for heights in logs.values())
    highest = max(float(heights.max()) for heights in logs.values())
    levels = np.linspace(lowest, max(highest, lowest + 1e-6), NUM_LEVELS)
    for place, (name, surface) in enumerate(surfaces.items()):
        above: Any = figure.add_subplot(2, len(surfaces), place + 1)
        axis, heights = surface.axis, logs[name]
        above.contourf(axis, axis, heights, levels=levels, cmap="viridis")
        above.contour(axis, axis, heights, levels=levels, colors="white", linewidths=0.3)
        above.plot(0, 0, marker="+", color=colours["best"], markersize=12, markeredgewidth=2)
        above.set(title=name, xlabel="α", ylabel="β", aspect="equal")
        below: Any = figure.add_subplot(2, len(surfaces), len(surfaces) + place + 1,
                                        projection="3d")  # fmt: skip
        alpha, beta = np.meshgrid(axis, axis)
        below.plot_surface(alpha, beta, heights, cmap="viridis", vmin=levels[0], vmax=levels[-1])
        below.set(xlabel="α", ylabel="β", zlabel="log10 loss", zlim=(levels[0], levels[-1]))
    return figure


def save_surfaces(surfaces: Mapping[str, Surface], path: str | Path) -> Path:
    """Draw surfaces into a file, whose suffix is the format.

    Raises:
        OSError: if the file cannot be written.

    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure = draw_surfaces(surfaces)
    figure.savefig(target, facecolor=figure.get_facecolor())
    return target


def numbers(surfaces: Mapping[str, Surface]) -> pd.DataFrame:
    """Return one row per grid point: net, alpha, beta, loss."""
    import pandas as pd

    frames = []
    for name, surface in surfaces.items():
        alpha, beta = np.meshgrid(surface.axis, surface.axis)
        values = {"alpha": alpha.ravel(), "beta": beta.ravel(), "loss": surface.loss.ravel()}
        frames.append(pd.DataFrame({"net": name, **values}))
    return pd.concat(frames)


def save_numbers(surfaces: Mapping[str, Surface], path: str | Path) -> Path:
    """Write one row per grid point as CSV."""
    numbers(surfaces).to_csv(path, index=False)
    return Path(path)


def _log_loss(surface: Surface) -> np.ndarray:
    """Return log10 of the loss; where it is not finite, the largest finite one."""
    loss = surface.loss
    finite = loss[np.isfinite(loss)]
    top = float(finite.max()) if finite.size else 1.0
    filled = np.where(np.isfinite(loss), loss, top)
    logs: np.ndarray = np.log10(np.maximum(filled, 1e-12))
    return logs
