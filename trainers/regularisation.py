"""Penalties on weights, gradient clipping and early stopping, each lane with its own numbers.

With R the penalty and lambda its strength, the lecture's page 44 adds lambda * R to the loss:

- L1: R = sum |w|, subgradient lambda * sign(w), with sign(0) = 0;
- L2: R = sum w^2, gradient 2 * lambda * w (torch's `weight_decay` would be 2 * lambda).

Both act on weights only, never on biases or normalisation. A lane with lambda 0 gets exactly what
it would get without the penalty, so lanes with and without one can share a pack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence

import torch
from torch import Tensor

from trainers.config import RegularisationConfig, TrialConfig


class LanePenalties:
    """Penalties and clipping of a group of W lanes, applied to flat rows.

    Args:
        configs: One per lane, [W].
        params: Flat parameters, [W, P].
        grads: Flat gradients, [W, P].
        num_decaying: The first so many columns are weights; penalties act on those alone.
    """

    def __init__(
        self,
        configs: Sequence[TrialConfig],
        params: Tensor,
        grads: Tensor,
        num_decaying: int,
    ) -> None:
        parts = [config.regularisation for config in configs]
        self._grads = grads
        self._weights = params[:, :num_decaying]
        self._weight_grads = grads[:, :num_decaying]
        subgradient = [part.l1 if part.l1_form == "subgradient" else 0.0 for part in parts]
        proximal = [part.l1 if part.l1_form == "proximal" else 0.0 for part in parts]
        self._l1 = self._column(subgradient)
        self._l2 = self._column([2 * part.l2 for part in parts])
        self._proximal = self._column(proximal)
        self._decay = self._column([part.decoupled_decay for part in parts])
        clip = [config.train.grad_clip_norm for config in configs]
        self._clip = None
        if any(norm is not None for norm in clip):
            limits = [math.inf if norm is None else norm for norm in clip]
            self._clip = torch.tensor(limits, dtype=params.dtype, device=params.device)

    def _column(self, values: Sequence[float]) -> Tensor | None:
        """Return [W, 1], or None where every lane's value is 0 and the term can be left out."""
        if not any(values):
            return None
        return torch.tensor(values, dtype=self._grads.dtype, device=self._grads.device)[:, None]

    def add_gradients(self) -> None:
        """Add the penalties' gradients to the flat gradients, in place."""
        if self._l1 is not None:
            self._weight_grads.addcmul_(self._weights.sign(), self._l1)
        if self._l2 is not None:
            self._weight_grads.addcmul_(self._weights, self._l2)

    def clip(self) -> None:
        """Scale each lane's gradient down to its norm, as `torch.nn.utils.clip_grad_norm_`."""
        if self._clip is None:
            return
        norms = torch.linalg.vector_norm(self._grads, dim=1)
        self._grads.mul_((self._clip / (norms + 1e-6)).clamp_(max=1.0)[:, None])

    def before_update(self, lr: Tensor) -> None:
        """Decay weights beside the optimizer: w -= lr * decoupled_decay * w. `lr`: [W, 1]."""
        if self._decay is not None:
            self._weights.mul_(1 - lr * self._decay)

    def after_update(self, lr: Tensor) -> None:
        """Take the proximal step of L1: w = sign(w) * max(|w| - lr * l1, 0). `lr`: [W, 1]."""
        if self._proximal is not None:
            threshold = lr * self._proximal
            # w - clamp(w, -t, t) is the soft threshold, and exactly w where t is 0.
            self._weights.sub_(self._weights.clamp(-threshold, threshold))


def update_best(counters: MutableMapping[str, float], epoch: int, val_loss: float) -> bool:
    """Record the epoch if its validation loss is the lowest so far, and say whether it is."""
    if val_loss < counters.get("best_val_loss", math.inf):
        counters["best_val_loss"] = val_loss
        counters["best_epoch"] = epoch
        return True
    return False


def should_stop_early(
    config: RegularisationConfig, counters: MutableMapping[str, float], val_loss: float
) -> bool:
    """Count an epoch for early stopping, and say whether the trial stops (lecture, p. 49).

    It stops after `patience_epochs` epochs in a row whose validation loss was not below the best
    one by more than `min_delta`. Counters `early_best` and `early_bad_epochs` belong to the trial.
    """
    stopping = config.early_stopping
    if not stopping.patience_epochs:
        return False
    if val_loss < counters.get("early_best", math.inf) - stopping.min_delta:
        counters["early_best"] = val_loss
        counters["early_bad_epochs"] = 0
    else:
        counters["early_bad_epochs"] = counters.get("early_bad_epochs", 0) + 1
    return counters["early_bad_epochs"] >= stopping.patience_epochs


def why_converged(
    change: float | None, counters: MutableMapping[str, float], metrics: Mapping[str, float]
) -> str:
    """Apply the convergence test of the lecture's p. 19; return the reason to stop, or ''.

    The loss over all training rows is compared with the epoch before, never the noisy mean over
    an epoch's batches, and never before there are two of them. The counter `full_train_loss`
    belongs to the trial.

    Args:
        change: What the loss must change by to go on; None: there is no test.
        counters: The trial's own.
        metrics: Of the epoch; `full_train_loss` among them where there is a test.

    """
    if change is None:
        return ""
    before = counters.get("full_train_loss")
    loss = counters["full_train_loss"] = metrics["full_train_loss"]
    if before is None or abs(loss - before) >= change:
        return ""
    return (
        f"converged: the loss over all training rows went from {before:.8g} to {loss:.8g}, "
        f"a change of less than {change:g}"
    )
