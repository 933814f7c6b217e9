"""How much of a budget is held back so that the finalists can still be trained."""

from service.search.spec import SearchSpec

MOST = 0.4
"""A search never gives up more of its budget than this, however many finalists there are."""


def reserved_share(spec: SearchSpec) -> float:
    """Return the share of a time, energy or CO2 budget that the finalists will need.

    Estimated by epochs of training: those of finalists over those of the whole plan. Halving
    stops most trials early; its rungs are counted as if two thirds of their epochs were saved.
    """
    plan = spec.plan()
    longest = max((round_.epochs or spec.base.train.epochs) for round_ in plan)
    finalists = spec.finalists.trials * spec.finalists.seeds * longest
    search = 0.0
    for round_ in plan:
        configs = round_.trials or 1
        epochs = configs * round_.seeds * (round_.epochs or spec.base.train.epochs)
        search += epochs / 3 if round_.halving else epochs
    return min(MOST, finalists / (finalists + search)) if finalists else 0.0
