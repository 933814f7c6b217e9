"""What was tuned: the best values over size, with the law through them."""

from __future__ import annotations

import numpy as np

from service.report.charts.base import Chart, Figure, layout
from service.report.numbers import short
from service.scaling.analysis import Analysis
from service.scaling.hyperparameters import HyperparameterLaw
from service.scaling.pictures.marks import dots, line, log_ticks


def hyperparameters_chart(study: Analysis) -> Chart | None:
    """Draw each tuned value's best over N, one colour per budget; edges are flagged."""
    if not study.hyperparameters:
        return None
    first = study.hyperparameters[0]
    notes = [law.sentence for law in study.hyperparameters]
    notes += [note for law in study.hyperparameters for note in law.notes]
    return Chart(
        name="hyperparameters",
        title="The best learning rate over size"
        if first.path == "optimizer.lr"
        else "Tuned values",
        note="; ".join(text[:1].upper() + text[1:] for text in notes) + ".",
        views=tuple((law.path, _view(law)) for law in study.hyperparameters),
        table=first.optima,
    )


def _view(law: HyperparameterLaw) -> Figure:
    optima = law.optima
    sizes = np.geomspace(optima["params"].min(), optima["params"].max(), 30)
    data: list[Figure] = []
    for number, (flops, own) in enumerate(optima.groupby("flops")):
        colour, budget = f"@s{1 + number % 6}", float(str(flops))
        data.append(dots(own["params"], own["value"], f"{short(budget, 2)} FLOP", colour, size=8))
        curve = law.predict(sizes, np.full(len(sizes), budget))
        data.append(line(sizes, curve["value"], "law", colour, width=1.2, legend=False))
    edges = optima[~optima["used"]]
    if len(edges):
        data.append(
            dots(edges["params"], edges["value"], "at the edge of what was tried", "@best",
                 symbol="triangle-up-open", size=11)
        )  # fmt: skip
    return {
        "data": data,
        "layout": layout(
            height=380,
            xaxis=log_ticks("parameters N", optima["params"]),
            yaxis=log_ticks(f"best {law.path}", optima["value"]),
        ),
    }
