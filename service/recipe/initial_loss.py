"""Step 1: before any update a net knows nothing, so its loss must be that of knowing nothing.

That is ln C for cross-entropy over C classes, and half the target variance for half_mse. Random
outputs of standard deviation s add about s^2/2 per output, which is where the tolerance lies.
The same pass shows a dead start: no weight gets a gradient, or all hidden units the same one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.recipe.record import Verdict, short, verdict_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainers.losses import LossKind


@dataclass(frozen=True, kw_only=True)
class InitialFacts:
    """One forward and backward pass of an untrained net, penalties and dropout off."""

    loss: float
    """Mean loss over `num_rows` training rows."""
    output_std: float | None = None
    """Standard deviation of the raw outputs over rows, mean over outputs."""
    weight_grad_norm: float | None = None
    """Norm of the gradient of all weight matrices together, biases left out."""
    symmetric: bool = False
    """All units of some hidden layer get the same gradient, so they will stay copies."""
    num_rows: int = 0


def initial_loss(
    facts: InitialFacts,
    *,
    dummy_loss: float,
    num_outputs: int,
    loss: LossKind,
    tolerance: float = 2.0,
) -> Verdict:
    """Judge an untrained net's loss against that of knowing nothing.

    Args:
        facts: what one pass over the untrained net gave.
        dummy_loss: ln C, or half the target variance (`Dataset.dummy_loss()`).
        num_outputs: classes, or target columns.
        loss: which loss was measured.
        tolerance: largest output standard deviation that still counts as a small random start.

    """
    if loss != "half_mse":
        name = f"ln {num_outputs} = {short(dummy_loss)}"
        ceiling = dummy_loss + tolerance**2 / 2
    else:
        name = f"half the target variance = {short(dummy_loss)}"
        ceiling = dummy_loss + num_outputs * tolerance**2 / 2
    floor = dummy_loss / 2
    measured = f"the untrained net's loss is {short(facts.loss)}"
    data = {
        "loss": facts.loss,
        "expected": dummy_loss,
        "floor": floor,
        "ceiling": ceiling,
        "output_std": facts.output_std,
        "weight_grad_norm": facts.weight_grad_norm,
        "num_rows": facts.num_rows,
    }

    def failed(word: str, reason: str, advice: str) -> Verdict:
        return verdict_of(
            1, passed=False, verdict=word, reason=reason, consequence=advice, data=data
        )

    if not math.isfinite(facts.loss):
        return failed(
            "infinite",
            f"{measured}, which is no number",
            "Look for infinities in the features and for a log or a division in the model",
        )
    if facts.weight_grad_norm is not None and facts.weight_grad_norm < 1e-12:
        return failed(
            "dead",
            f"{measured}, near {name}, but no weight gets a gradient "
            f"(norm {short(facts.weight_grad_norm)})",
            "Start from random weights: `init.kind: auto`",
        )
    if facts.symmetric:
        return failed(
            "symmetric",
            f"{measured}, but all units of a hidden layer get the same gradient and stay copies",
            "Start from random weights: `init.kind: auto`",
        )
    if facts.loss > ceiling:
        return failed(
            "high",
            f"{measured}, above {short(ceiling)}; knowing nothing costs {name}",
            "The first weights are too large or the loss is summed instead of averaged: try "
            "`init.kind: auto`, standardised features, and the loss that fits the task",
        )
    if facts.loss < floor:
        return failed(
            "low",
            f"{measured}, less than half of {name} before any training",
            "Look for the target among the features, and for a loss that does not fit the task",
        )
    return verdict_of(
        1,
        passed=True,
        verdict="good",
        reason=f"{measured}; knowing nothing costs {name}, and up to {short(ceiling)} is "
        "a small random start",
        consequence="go on to overfitting a small sample",
        data=data,
    )


def measure(model: nn.Module, x: Tensor, y: Tensor, loss: LossKind) -> InitialFacts:
    """Run one forward and backward pass without touching the model's weights or statistics.

    Args:
        model: an untrained module; left as it was, in its own mode.
        x: [N, ...] rows of the training split.
        y: [N] classes, [N, K] numbers, or [N, T] tokens.
        loss: which loss to measure.

    """
    import torch
    from torch.func import functional_call

    from trainers.losses import loss_function

    parameters = {name: p.detach().requires_grad_() for name, p in model.named_parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    was_training = model.training
    model.eval()  # dropout off; normalisation with its initial statistics
    try:
        outputs_NK = functional_call(model, {**parameters, **buffers}, (x,))
    finally:
        model.train(was_training)
    value = loss_function(loss)(outputs_NK, y, 0.0)
    gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
    weights = [g for g in gradients if g is not None and g.dim() > 1]
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in weights))
    return InitialFacts(
        loss=float(value.detach()),
        output_std=float(outputs_NK.detach().std(dim=0).mean()) if len(x) > 1 else None,
        weight_grad_norm=norm,
        symmetric=_symmetric(weights[:-1]),
        num_rows=len(x),
    )


def _symmetric(hidden_weights: Sequence[Tensor]) -> bool:
    """Whether some layer's units (rows of its weight gradient) all get one and the same update."""
    for gradient in hidden_weights:
        rows = gradient.flatten(1)
        scale = rows.abs().max()
        if len(rows) > 1 and scale > 0 and (rows - rows[0]).abs().max() <= 1e-6 * scale:
            return True
    return False
