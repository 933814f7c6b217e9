"""The section `pruning`: cut a trial's smallest weights while it trains, and keep them cut."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from trainers.sections import Fraction, Section


class PruningConfig(Section):
    """Magnitude pruning (lecture, p. 66), before one of the trial's own epochs.

    In each layer the weights nearest 0 are set to 0 and stay there, whatever momentum and decay
    would do to them; the rest trains on. Biases and normalisation are never cut. What was the best
    epoch before the cut no longer counts, because its net was dense.
    """

    sparsity: Fraction = 0.0
    """Share of each layer's weights that is cut, to the nearest whole weight; 0: none."""
    after_epochs: Annotated[int, Field(ge=0)] = 0
    """Epochs trained before the cut; 0: cut the initial weights. Fewer than `train.epochs`, so
    that what is left trains on."""


def check_pruning(pruning: PruningConfig, *, epochs: int, rule: str) -> None:
    """Refuse a cut that comes after training, or a rule that samples its weights anew.

    Raises:
        ValueError: naming the rule, the value and what would work.

    """
    if not pruning.sparsity:
        return
    if pruning.after_epochs >= epochs:
        raise ValueError(
            "`pruning.after_epochs` must be less than `train.epochs`, so that what is left trains "
            f"on, but got {pruning.after_epochs} and {epochs} (a round's `epochs` are those of its "
            f"trials); try {epochs // 2}"
        )
    if rule == "cma_es":
        raise ValueError(
            "`learning_rule.kind: cma_es` samples all weights anew at every update, so none stays "
            f"cut, but got `pruning.sparsity` {pruning.sparsity}; leave `pruning` out, or use "
            "`learning_rule.kind: backprop`"
        )
