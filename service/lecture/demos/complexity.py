"""What backpropagation saves (p. 26, 27): a vector through a Jacobian, not Jacobians multiplied."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Annotated

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch.utils.flop_counter import FlopCounterMode

from service.lecture.findings import Findings, label, new_figure
from trainers.config import Count, Section


class Complexity(Section):
    """Widths of the square layer that is measured, and the width the page speaks of."""

    sizes: Annotated[tuple[Count, ...], Field(min_length=2)] = (256, 512, 1024, 2048)
    n: Count = 4096
    repeats: Count = 3


def orders(settings: Complexity) -> Findings:
    """Time and count delta W (a vector) against J W (a Jacobian), and fit the exponents."""
    rows = []
    for size in settings.sizes:
        weight = torch.randn(size, size)
        vector, jacobian = torch.randn(1, size), torch.randn(size, size)
        for name, left in (
            ("vector (backpropagation)", vector),
            ("Jacobian (brute force)", jacobian),
        ):
            rows.append(
                {"n": size, "product": name, "flops": _flops(left, weight),
                 "seconds": _seconds(partial(torch.matmul, left, weight), settings.repeats)}
            )  # fmt: skip
    table = pd.DataFrame(rows)
    figure, axes = new_figure(1, 2)
    measures: dict[str, float | str] = {}
    for name in table["product"].unique():
        group = table[table["product"] == name]
        for place, column in enumerate(("flops", "seconds")):
            slope = float(np.polyfit(np.log(group["n"]), np.log(group[column]), 1)[0])
            axes[0, place].loglog(
                group["n"], group[column], "o-", label=f"{name}: slope {slope:.2f}"
            )
            measures[f"exponent of {column}, {name}"] = slope
    n = float(settings.n)
    measures |= {
        f"n^3 at n = {settings.n}": n**3,
        f"n^2 at n = {settings.n}": n**2,
        f"n^2 / n^3 at n = {settings.n}, %": 100 / n,
        f"finite differences, forward passes at n = {settings.n}": n**2,
    }
    for one in axes[0]:
        one.set_xticks(settings.sizes, [str(size) for size in settings.sizes])
        one.minorticks_off()
    label(axes[0, 0], "operations counted", "units per layer n", "FLOPs")
    label(axes[0, 1], "time measured", "units per layer n", "seconds")
    return Findings(table=table, measures=measures, figure=figure)


def _flops(left: torch.Tensor, right: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        left @ right
    return int(counter.get_total_flops())


def _seconds(call: Callable[[], object], repeats: int) -> float:
    """Return the best of several timings, each long enough to be seen."""
    call()
    best = float("inf")
    for _ in range(repeats):
        num, began = 0, time.perf_counter()
        while time.perf_counter() - began < 0.02:
            call()
            num += 1
        best = min(best, (time.perf_counter() - began) / num)
    return best
