"""Update rules on flat rows: one row of parameters per lane, each lane with its own constants.

With g the gradient, t the update's number from 1, and every operation elementwise:

- sgd: w -= lr g
- momentum, torch's form: V = beta V + g, w -= lr V (dampening 0)
- momentum, the lecture's form (p. 41): V = beta V + (1 - beta) g, w -= lr V. With V starting at 0
  this is torch's form at the rate lr (1 - beta), to which it is reduced here; the two are NOT
  related by torch's `dampening`, whose first update is not dampened.
- rmsprop (p. 42): S = alpha S + (1 - alpha) g^2, w -= lr g / (sqrt(S) + eps)
- adagrad (Duchi et al. 2011): S = S + g^2, w -= lr g / (sqrt(S) + eps)
- adam (Kingma & Ba 2015): V and S as above with beta1 and beta2,
  w -= lr (V / (1 - beta1^t)) / (sqrt(S / (1 - beta2^t)) + eps). The lecture's page 43 prints
  (1 - beta)^t, which is a misprint: steps would shrink by about 0.3 each.
- adamw (Loshchilov & Hutter 2019): w -= lr weight_decay w first, then adam without it.

For all but adamw `weight_decay` adds weight_decay * w to g, for every parameter, as in torch.

Two implementations give the same numbers up to rounding. `FusedRows` calls torch's fused kernel
once per lane and reads each number once; `StackedRows` runs tensor operations over all lanes and
wins where rows are short, because a call costs as much as thousands of elements. Which of them
runs depends on the row's length, the kind and the device alone, never on the other lanes, so that
packing does not change a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainers.config import OptimizerConfig, OptimizerKind
from trainers.models.residual import SCALAR_RATE

SLOTS: Mapping[OptimizerKind, tuple[str, ...]] = {
    "sgd": (),
    "momentum": ("velocity",),
    "rmsprop": ("square",),
    "adagrad": ("square",),
    "adam": ("mean", "square"),
    "adamw": ("mean", "square"),
}
"""Names of the optimizer's state tensors, each as large as the parameters."""

FUSED_FROM: Mapping[OptimizerKind, int] = {
    "sgd": 16_384,
    "momentum": 16_384,
    "adagrad": 8_192,
    "adam": 4_096,
    "adamw": 4_096,
}
"""Row length from which torch's fused kernel beats stacked operations on a CPU (measured)."""


class RowOptimizer(Protocol):
    """Updates flat rows in place from flat gradients."""

    def begin_epoch(self, lr: npt.NDArray[np.float64], steps_done: Sequence[int]) -> None:
        """Take the rates of an epoch's steps, [S, W], and each lane's updates so far, [W]."""

    def step(self, index: int) -> None:
        """Do the epoch's update number `index`, from 0."""


def make_optimizer(
    configs: Sequence[OptimizerConfig],
    params: Tensor,
    grads: Tensor,
    slots: Mapping[str, Tensor],
    slow: Tensor | None = None,
) -> RowOptimizer:
    """Return the optimizer of a group of W lanes of one kind.

    Args:
        configs: One per lane, [W], all of one kind.
        params: Flat parameters, [W, P], updated in place.
        grads: Flat gradients, [W, P]; may be changed.
        slots: State by name (see `SLOTS`), each [W, P], zero before the first update.
        slow: Positions in a row, int64, of Fixup's scalars; see `SlowScalars`.
    """
    kind = configs[0].kind
    long_enough = params.shape[1] >= FUSED_FROM.get(kind, params.shape[1] + 1)
    rows = FusedRows if params.device.type == "cpu" and long_enough else StackedRows
    optimizer = rows(configs, params, grads, slots)
    return optimizer if slow is None or not len(slow) else SlowScalars(optimizer, params, slow)


def effective_rate(config: OptimizerConfig) -> float:
    """Return the factor on the rate that reduces the lecture's momentum to torch's form."""
    if config.kind == "momentum" and config.form == "lecture":
        return 1.0 - config.momentum
    return 1.0


class FusedRows:
    """torch's fused CPU kernels, one call per lane; see the module's docstring."""

    def __init__(
        self,
        configs: Sequence[OptimizerConfig],
        params: Tensor,
        grads: Tensor,
        slots: Mapping[str, Tensor],
    ) -> None:
        self._configs = list(configs)
        self._kind = configs[0].kind
        names = SLOTS[self._kind]
        self._rows = [
            ([params[i]], [grads[i]], *([slots[name][i]] for name in names))
            for i in range(len(configs))
        ]
        # The fused kernels read each lane's t from a tensor, already counted up.
        self._t = torch.zeros(len(configs), dtype=torch.float32)
        self._t_rows = [[self._t[i]] for i in range(len(configs))]
        self._rate_factor = np.array([effective_rate(config) for config in configs])
        self._lr: list[list[float]] = []
        self._step_lane = {
            "sgd": self._sgd,
            "momentum": self._momentum,
            "adagrad": self._adagrad,
            "adam": self._adam,
            "adamw": self._adamw,
        }[self._kind]

    def begin_epoch(self, lr: npt.NDArray[np.float64], steps_done: Sequence[int]) -> None:
        """Take the rates of an epoch's steps, [S, W], and each lane's updates so far, [W]."""
        self._lr = (lr * self._rate_factor).tolist()
        self._t.copy_(torch.tensor(steps_done, dtype=torch.float32))

    def step(self, index: int) -> None:
        """Do the epoch's update number `index`, from 0."""
        self._t.add_(1)
        step_lane = self._step_lane
        for lane, lr in enumerate(self._lr[index]):
            step_lane(lane, lr)

    def _sgd(self, lane: int, lr: float) -> None:
        params, grads = self._rows[lane]
        torch._fused_sgd_(
            params,
            grads,
            [],
            weight_decay=self._configs[lane].weight_decay,
            momentum=0.0,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )

    def _momentum(self, lane: int, lr: float) -> None:
        params, grads, velocity = self._rows[lane]
        config = self._configs[lane]
        torch._fused_sgd_(
            params,
            grads,
            velocity if config.momentum else [],
            weight_decay=config.weight_decay,
            momentum=config.momentum,
            lr=lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )

    def _adagrad(self, lane: int, lr: float) -> None:
        params, grads, square = self._rows[lane]
        config = self._configs[lane]
        torch._fused_adagrad_(
            params,
            grads,
            square,
            self._t_rows[lane],
            lr=lr,
            lr_decay=0.0,
            weight_decay=config.weight_decay,
            eps=config.denominator_eps,
            maximize=False,
        )

    def _adam(self, lane: int, lr: float) -> None:
        self._adam_with(torch._fused_adam_, lane, lr)

    def _adamw(self, lane: int, lr: float) -> None:
        self._adam_with(torch._fused_adamw_, lane, lr)

    def _adam_with(self, kernel: object, lane: int, lr: float) -> None:
        params, grads, mean, square = self._rows[lane]
        config = self._configs[lane]
        kernel(  # type: ignore[operator]
            params,
            grads,
            mean,
            square,
            [],
            self._t_rows[lane],
            lr=lr,
            beta1=config.beta1,
            beta2=config.beta2,
            weight_decay=config.weight_decay,
            eps=config.denominator_eps,
            amsgrad=False,
            maximize=False,
        )


class StackedRows:
    """Tensor operations over all lanes at once, on any device; see the module's docstring."""

    def __init__(
        self,
        configs: Sequence[OptimizerConfig],
        params: Tensor,
        grads: Tensor,
        slots: Mapping[str, Tensor],
    ) -> None:
        self._kind = configs[0].kind
        self._params, self._grads = params, grads
        self._slots = [slots[name] for name in SLOTS[self._kind]]
        self._rate_factor = np.array([effective_rate(config) for config in configs])
        self._configs = list(configs)
        self._momentum = self._column([config.momentum for config in configs])
        self._alpha = self._column([config.rms_alpha for config in configs])
        self._one_minus_alpha = self._column([1 - config.rms_alpha for config in configs])
        self._beta1 = self._column([config.beta1 for config in configs])
        self._one_minus_beta1 = self._column([1 - config.beta1 for config in configs])
        self._beta2 = self._column([config.beta2 for config in configs])
        self._one_minus_beta2 = self._column([1 - config.beta2 for config in configs])
        self._eps = self._column([config.denominator_eps for config in configs])
        decay = [config.weight_decay for config in configs]
        self._decay = self._column(decay) if any(decay) else None
        self._work = torch.empty_like(params)
        # Per step of the epoch, [S, W, 1]: -lr (bias corrected for adam), and for adam the factor
        # 1 / sqrt(1 - beta2^t) on the root; for adamw the factor 1 - lr weight_decay.
        self._rate = self._root_factor = self._shrink = self._momentum

    def _column(self, values: Sequence[float]) -> Tensor:
        column = torch.tensor(values, dtype=torch.float64)[:, None]
        return column.to(self._params.device, self._params.dtype)

    def _table(self, values: npt.NDArray[np.float64]) -> Tensor:
        table = torch.from_numpy(np.ascontiguousarray(values))[:, :, None]
        return table.to(self._params.device, self._params.dtype)

    def begin_epoch(self, lr: npt.NDArray[np.float64], steps_done: Sequence[int]) -> None:
        """Take the rates of an epoch's steps, [S, W], and each lane's updates so far, [W]."""
        rate = lr * self._rate_factor
        if self._kind in ("adam", "adamw"):
            t = np.asarray(steps_done) + 1 + np.arange(len(lr))[:, None]
            beta1 = np.array([config.beta1 for config in self._configs])
            beta2 = np.array([config.beta2 for config in self._configs])
            rate = rate / (1 - beta1**t)
            self._root_factor = self._table(1 / np.sqrt(1 - beta2**t))
            decay = np.array([config.weight_decay for config in self._configs])
            self._shrink = self._table(1 - lr * decay)
        self._rate = self._table(-rate)

    def step(self, index: int) -> None:
        """Do the epoch's update number `index`, from 0."""
        params, grads = self._params, self._grads
        if self._decay is not None and self._kind == "adamw":
            params.mul_(self._shrink[index])
        elif self._decay is not None:
            grads.addcmul_(params, self._decay)
        rate = self._rate[index]
        if self._kind == "sgd":
            params.addcmul_(grads, rate)
        elif self._kind == "momentum":
            (velocity,) = self._slots
            velocity.mul_(self._momentum).add_(grads)
            params.addcmul_(velocity, rate)
        else:
            self._adaptive_step(index, rate)

    def _adaptive_step(self, index: int, rate: Tensor) -> None:
        grads, work = self._grads, self._work
        square = self._slots[-1]
        direction = grads
        torch.mul(grads, grads, out=work)
        if self._kind == "adagrad":
            square.add_(work)
        elif self._kind == "rmsprop":
            square.mul_(self._alpha).addcmul_(work, self._one_minus_alpha)
        else:
            direction = self._slots[0]
            direction.mul_(self._beta1).addcmul_(grads, self._one_minus_beta1)
            square.mul_(self._beta2).addcmul_(work, self._one_minus_beta2)
        torch.sqrt(square, out=work)
        if self._kind in ("adam", "adamw"):
            work.mul_(self._root_factor[index])
        work.add_(self._eps)
        torch.div(direction, work, out=work)
        self._params.addcmul_(work, rate)


class SlowScalars:
    """Any of the above, with some parameters updated by `SCALAR_RATE` of what it would do to them.

    That is the rate lr * SCALAR_RATE for these parameters, whatever the kind: every rule's update
    is proportional to lr, and no state depends on it.
    """

    def __init__(self, optimizer: RowOptimizer, params: Tensor, positions: Tensor) -> None:
        self._optimizer, self._params = optimizer, params
        self._positions = positions.to(params.device)

    def begin_epoch(self, lr: npt.NDArray[np.float64], steps_done: Sequence[int]) -> None:
        """Take the rates of an epoch's steps, [S, W], and each lane's updates so far, [W]."""
        self._optimizer.begin_epoch(lr, steps_done)

    def step(self, index: int) -> None:
        """Do the epoch's update number `index`, from 0."""
        before = self._params[:, self._positions]
        self._optimizer.step(index)
        after = self._params[:, self._positions]
        self._params[:, self._positions] = before.lerp(after, SCALAR_RATE)
