"""Written-out forward and backward passes of stacked multilayer perceptrons.

No autograd and no module is involved: W lanes go through each matrix product in one batched call,
and gradients are written straight into the lanes' flat rows. What makes it fast was measured:

- outputs are padded to a multiple of 16, because narrow products run at a sixth of the rate;
- workspaces are reused from step to step, so that they stay in the cache;
- activations and their derivatives work in place.

Padded outputs have weights 0 and get gradients 0, so they stay 0 under every update rule. A
product of one lane does not depend on how many lanes go along, so neither does a result.

Shapes: W lanes of the group, B rows of a batch, D inputs, H hidden units, K padded outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from trainers.config import ModelConfig
from trainers.lanes.engine import LaneBuffers
from trainers.lanes.flat import FlatLayout
from trainers.lanes.mlp_workspace import Block, Workspace
from trainers.losses import LossKind
from trainers.trial import Trial

_aten = torch.ops.aten

OUTPUT_MULTIPLE = 16
ROW_ALIGNMENT = 16
"""Lanes start at multiples of 64 bytes everywhere: a product's rounding may depend on that."""
_SMALL_WEIGHT = 8192
# Far below any logit, yet finite: 0 * it is 0, where 0 * -inf would be NaN.
_PADDED_LOGIT = -1e30


class MlpKernels:
    """The `kernels` tier: everything that is the same for all groups of a pack.

    Args:
        module: A `trainers.models.Mlp` as it was built; only its structure is read.
        config: The section `model` that it was built from.
        loss: Which loss is trained on.
    """

    tier = "kernels"
    draws = False

    def __init__(
        self, module: nn.Module, config: ModelConfig, loss: LossKind, dtype: torch.dtype
    ) -> None:
        linears = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.Linear)]
        norms = [(n, m) for n, m in module.named_modules() if isinstance(m, nn.BatchNorm1d)]
        self.linear_names = [name for name, _ in linears]
        self.norm_names = [name for name, _ in norms]
        self.norm_eps = [norm.eps for _, norm in norms]
        self.config = config
        self.loss = loss
        self.num_outputs = linears[-1][1].out_features
        self.padded_outputs = -(-self.num_outputs // OUTPUT_MULTIPLE) * OUTPUT_MULTIPLE
        self.canonical = FlatLayout.of(module)
        shapes = {entry.name: entry.shape for entry in self.canonical.entries}
        for suffix in ("weight", "bias"):
            name = f"{self.linear_names[-1]}.{suffix}"
            shapes[name] = (self.padded_outputs, *shapes[name][1:])
        self.layout = FlatLayout.from_shapes(shapes, align=ROW_ALIGNMENT)
        self._positions = self.canonical.positions_in(self.layout)
        self.dropout_shapes: list[tuple[int, ...]] = [(config.width,)] * config.depth
        self._dtype = dtype
        self._workspaces: dict[tuple[int, int, torch.device], Workspace] = {}

    def dropout_rates(self, config: ModelConfig) -> list[float]:
        """Return one lane's rate for each dropout."""
        return [config.dropout] * config.depth

    def to_canonical(self, rows: Tensor) -> Tensor:
        """Return padded rows [L, P] as rows of the canonical layout."""
        return rows.index_select(1, self._positions.to(rows.device))

    def from_canonical(self, rows: Tensor) -> Tensor:
        """Return canonical rows as padded rows [L, P]."""
        padded = rows.new_zeros(len(rows), self.layout.size)
        return padded.index_copy_(1, self._positions.to(rows.device), rows)

    def inputs(self, x: Tensor) -> Tensor:
        """Return rows as the kernels read them: [N, D], with columns added for alignment."""
        flat = x.reshape(len(x), -1).to(self._dtype)
        return nn.functional.pad(flat, (0, -flat.shape[1] % ROW_ALIGNMENT))

    def targets(self, y: Tensor) -> Tensor:
        """Return one-hot classes, or numbers, padded: [N, K]."""
        target = torch.zeros(len(y), self.padded_outputs, dtype=self._dtype, device=y.device)
        if y.is_floating_point():
            target[:, : self.num_outputs] = y
        else:
            target.scatter_(1, y[:, None], 1.0)
        return target

    def own_buffers(self, trial: Trial) -> dict[str, Tensor]:
        """Return nothing: a module's own buffers are all there is."""
        return {}

    def bind(
        self,
        params: Tensor,
        grads: Tensor,
        buffers: LaneBuffers,
        configs: Sequence[ModelConfig],
        smoothing: Sequence[float],
    ) -> BoundMlp:
        """Return the kernels for W lanes: views into their rows, ready to be called."""
        return BoundMlp(self, params, grads, buffers, configs, smoothing)

    def workspace(self, num_lanes: int, num_rows: int, device: torch.device) -> Workspace:
        """Return the buffers of one batch shape, shared by all groups."""
        key = (num_lanes, num_rows, device)
        if key not in self._workspaces:
            self._workspaces[key] = Workspace(
                num_lanes,
                num_rows,
                self.config,
                self.padded_outputs,
                self._dtype,
                device,
            )
        return self._workspaces[key]


@dataclass
class _Tape:
    """What the backward pass needs from the forward pass, layer by layer."""

    inputs: list[Tensor] = field(default_factory=list)
    activations: list[Block] = field(default_factory=list)
    inverse_std: list[Tensor] = field(default_factory=list)


class BoundMlp:
    """The kernels of one group of W lanes, bound to views of their rows."""

    def __init__(
        self,
        kernels: MlpKernels,
        params: Tensor,
        grads: Tensor,
        buffers: LaneBuffers,
        configs: Sequence[ModelConfig],
        smoothing: Sequence[float],
    ) -> None:
        self._kernels = kernels
        self._num_lanes = len(params)
        self._activation = kernels.config.activation
        self._place = kernels.config.batch_norm
        layout = kernels.layout
        values, slopes = layout.views(params), layout.views(grads)
        names = kernels.linear_names
        self._weights = [values[f"{name}.weight"] for name in names]  # [W, out, in]
        self._weights_t = [weight.transpose(1, 2) for weight in self._weights]
        self._num_inputs = self._weights[0].shape[2]
        self._biases = [values[f"{name}.bias"].unsqueeze(1) for name in names]  # [W, 1, out]
        self._weight_grads = [slopes[f"{name}.weight"] for name in names]
        self._bias_grads = [slopes[f"{name}.bias"] for name in names]  # [W, out]
        norms = kernels.norm_names
        self._gammas = [values[f"{name}.weight"].unsqueeze(1) for name in norms]  # [W, 1, H]
        self._betas = [values[f"{name}.bias"].unsqueeze(1) for name in norms]
        self._gamma_grads = [slopes[f"{name}.weight"] for name in norms]  # [W, H]
        self._beta_grads = [slopes[f"{name}.bias"] for name in norms]
        self._running_means = [buffers[f"{name}.running_mean"] for name in norms]  # [W, H]
        self._running_vars = [buffers[f"{name}.running_var"] for name in norms]
        self._num_batches = [buffers[f"{name}.num_batches_tracked"] for name in norms]  # [W]
        column = torch.tensor([config.running_momentum for config in configs], dtype=torch.float64)
        self._momentum = column[:, None].to(params)  # [W, 1]
        self._smoothing = None
        if any(smoothing) and not (kernels.loss == "half_mse" and kernels.num_outputs == 1):
            self._smoothing = torch.tensor(smoothing, dtype=torch.float64)[:, None, None].to(params)
        self._padding = None
        if kernels.loss == "cross_entropy" and kernels.padded_outputs > kernels.num_outputs:
            self._padding = params.new_zeros(kernels.padded_outputs)
            self._padding[kernels.num_outputs :] = _PADDED_LOGIT

    def gradients(
        self, x: Tensor, target: Tensor, masks: Sequence[Tensor], seeds: Sequence[int] = ()
    ) -> Tensor:
        """Write the mean loss's gradient into the flat rows and return the loss of each lane, [W].

        Args:
            x: [W, B, D].
            target: Padded targets [W, B, K]; overwritten.
            masks: One [W, B, H] per hidden layer, or none at all.
            seeds: Not needed: nothing here draws from a generator.
        """
        work = self._kernels.workspace(self._num_lanes, x.shape[1], x.device)
        tape = self._forward(x, masks, work)
        loss, delta = self._loss(target, work)
        self._backward(delta, tape, masks, work)
        return loss

    def outputs(self, x: Tensor) -> Tensor:
        """Return logits or numbers of every lane in evaluation, [W, N, outputs], for x [N, D].

        The tensor is reused by the next call with as many rows.
        """
        work = self._kernels.workspace(self._num_lanes, len(x), x.device)
        h = x[:, : self._num_inputs].expand(self._num_lanes, -1, -1)
        for layer, block in enumerate(work.activations):
            torch.baddbmm(self._biases[layer], h, self._weights_t[layer], out=block.view)
            if self._place == "before":
                self._normalise_by_running(layer, block.view)
            _activate(self._activation, block.whole)
            if self._place == "after":
                self._normalise_by_running(layer, block.view)
            h = block.view
        torch.baddbmm(self._head_bias(), h, self._weights_t[-1], out=work.logits.view)
        return work.logits.view[..., : self._kernels.num_outputs]

    def evaluate(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return outputs [W, N, outputs] and each row's loss [W, N]. See `BoundLanes`."""
        outputs = self.outputs(x)
        work = self._kernels.workspace(self._num_lanes, len(x), x.device)
        part = work.p.view
        if self._kernels.loss == "cross_entropy":
            # Over padded columns, which run at several times the rate of narrow ones.
            torch._log_softmax(work.logits.whole, -1, False, out=work.log_p.whole)
            return outputs, torch.mul(work.log_p.view, target, out=part).sum(-1).neg_()
        torch.sub(work.logits.view, target, out=part)
        return outputs, part.mul_(part).sum(-1).mul_(0.5)

    def _head_bias(self) -> Tensor:
        """Return the head's bias [W, 1, K], which keeps padded logits out of a softmax."""
        return self._biases[-1] if self._padding is None else self._biases[-1] + self._padding

    def _forward(self, x: Tensor, masks: Sequence[Tensor], work: Workspace) -> _Tape:
        """Run the layers, leave the logits in `work.logits`, and return what was on the way."""
        tape = _Tape()
        h = x[..., : self._num_inputs]
        for layer, block in enumerate(work.activations):
            tape.inputs.append(h)
            torch.baddbmm(self._biases[layer], h, self._weights_t[layer], out=block.view)
            if self._place == "before":
                block = self._normalise_by_batch(layer, block, work, tape)
            _activate(self._activation, block.whole)
            tape.activations.append(block)
            if self._place == "after":
                block = self._normalise_by_batch(layer, block, work, tape)
            h = block.view
            if masks:
                h = torch.mul(h, masks[layer], out=work.dropped[layer].view)
        tape.inputs.append(h)
        torch.baddbmm(self._head_bias(), h, self._weights_t[-1], out=work.logits.view)
        return tape

    def _loss(self, target: Tensor, work: Workspace) -> tuple[Tensor, Block]:
        """Return the loss of each lane [W] and its gradient by the logits [W, B, K]."""
        logits, log_p = work.logits.view, work.log_p.view
        num_rows = logits.shape[1]
        if self._smoothing is not None:
            uniform = self._smoothing / self._kernels.num_outputs
            target.mul_(1 - self._smoothing)
            target[..., : self._kernels.num_outputs].add_(uniform)
        if self._kernels.loss == "cross_entropy":
            # On whole blocks: given a strided `out`, torch 2.13 writes to the wrong places.
            torch._log_softmax(work.logits.whole, -1, False, out=work.log_p.whole)
            # Not exp(log_p): the exponential is slow where it underflows, in padded columns.
            torch._softmax(work.logits.whole, -1, False, out=work.p.whole)
            loss = torch.mul(target, log_p, out=logits).flatten(1).sum(1).div_(-num_rows)
            # p is 0 in padded columns, and so is their target.
            work.p.view.sub_(target).mul_(1 / num_rows)
            return loss, work.p
        delta = logits.sub_(target)
        loss = torch.mul(delta, delta, out=log_p).flatten(1).sum(1).div_(2 * num_rows)
        delta.mul_(1 / num_rows)
        return loss, work.logits

    def _backward(
        self, block: Block, tape: _Tape, masks: Sequence[Tensor], work: Workspace
    ) -> None:
        """Take the gradient by the logits down through the layers."""
        delta = block.view
        for layer in range(len(self._weights) - 1, -1, -1):
            self._weight_gradient(layer, delta.transpose(1, 2), tape.inputs[layer])
            self._bias_grads[layer].copy_(block.sum_rows())
            if layer == 0:
                return
            below = layer - 1
            block = work.deltas[below % 2]
            delta = torch.bmm(delta, self._weights[layer], out=block.view)
            if masks:
                delta.mul_(masks[below])
            if self._place == "after":
                self._normalise_backward(below, block, work, tape)
            _activation_backward(self._activation, block.whole, tape.activations[below].whole)
            if self._place == "before":
                self._normalise_backward(below, block, work, tape)

    def _weight_gradient(self, layer: int, delta_t: Tensor, h: Tensor) -> None:
        """Write delta^T h into the flat rows.

        Into strided rows torch multiplies lane by lane, at a microsecond each; for small weights
        one batched product and a copy are faster.
        """
        target = self._weight_grads[layer]
        size = target[0].numel()
        if size > _SMALL_WEIGHT or size % ROW_ALIGNMENT:
            torch.bmm(delta_t, h, out=target)
        else:
            target.copy_(torch.bmm(delta_t, h))

    def _normalise_by_batch(self, layer: int, z: Block, work: Workspace, tape: _Tape) -> Block:
        """Normalise z [W, B, H] over its rows and update the running statistics.

        As `nn.BatchNorm1d`: the biased variance normalises, the unbiased one is remembered.
        """
        num_rows = z.view.shape[1]
        scaled = work.scaled[layer]
        mean = z.sum_rows().div_(num_rows).unsqueeze(1)  # [W, 1, H]
        hat = torch.sub(z.view, mean, out=work.normalised[layer].view)
        torch.mul(hat, hat, out=scaled.view)
        variance = scaled.sum_rows().div_(num_rows).unsqueeze(1)
        inverse_std = (variance + self._kernels.norm_eps[layer]).rsqrt_()
        hat.mul_(inverse_std)
        tape.inverse_std.append(inverse_std)
        keep, unbiased = 1 - self._momentum, num_rows / max(num_rows - 1, 1)
        self._running_means[layer].mul_(keep).add_(mean.squeeze(1) * self._momentum)
        self._running_vars[layer].mul_(keep).add_(
            variance.squeeze(1).mul_(unbiased) * self._momentum
        )
        self._num_batches[layer].add_(1)
        torch.mul(hat, self._gammas[layer], out=scaled.view).add_(self._betas[layer])
        return scaled

    def _normalise_backward(self, layer: int, block: Block, work: Workspace, tape: _Tape) -> None:
        """Turn the gradient by the normalised output into that by the input, in place.

        With n rows: dx = gamma / std * (d - mean(d) - hat * mean(d * hat)).
        """
        delta, num_rows = block.view, block.view.shape[1]
        hat, product = work.normalised[layer].view, work.scaled[layer].view
        torch.mul(delta, hat, out=product)
        sum_product, sum_delta = work.scaled[layer].sum_rows(), block.sum_rows()  # [W, H]
        self._gamma_grads[layer].copy_(sum_product)
        self._beta_grads[layer].copy_(sum_delta)
        mean_product = sum_product.div_(num_rows).unsqueeze(1)
        mean_delta = sum_delta.div_(num_rows).unsqueeze(1)
        delta.sub_(mean_delta).sub_(torch.mul(hat, mean_product, out=product))
        delta.mul_(self._gammas[layer] * tape.inverse_std[layer])

    def _normalise_by_running(self, layer: int, z: Tensor) -> None:
        mean = self._running_means[layer].unsqueeze(1)
        variance = self._running_vars[layer].unsqueeze(1)
        inverse_std = (variance + self._kernels.norm_eps[layer]).rsqrt_()
        z.sub_(mean).mul_(inverse_std * self._gammas[layer]).add_(self._betas[layer])


def _activate(name: str, z: Tensor) -> None:
    """Apply the activation in place."""
    if name == "relu":
        z.relu_()
    elif name == "tanh":
        z.tanh_()
    elif name == "sigmoid":
        z.sigmoid_()
    elif name == "elu":
        nn.functional.elu_(z)


def _activation_backward(name: str, delta: Tensor, a: Tensor) -> None:
    """Multiply delta by g'(z), in place, from the activation's output a = g(z)."""
    if name == "relu":
        _aten.threshold_backward.grad_input(delta, a, 0, grad_input=delta)
    elif name == "tanh":
        _aten.tanh_backward.grad_input(delta, a, grad_input=delta)
    elif name == "sigmoid":
        _aten.sigmoid_backward.grad_input(delta, a, grad_input=delta)
    elif name == "elu":
        _aten.elu_backward.grad_input(delta, 1.0, 1.0, 1.0, True, a, grad_input=delta)
