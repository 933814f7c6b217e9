"""Mixture of experts: each row is computed by the k experts that its gate prefers.

Shapes: B rows, E experts, k experts per row, I inputs, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainers.activations import activation_module
from trainers.config import Activation
from trainers.models.auxiliary import WithAuxiliaryLoss
from trainers.models.dropout import LaneDropout


class PickWeights(nn.Module):
    """Gather the weights of each row's experts: by far the most memory that a mixture takes.

    It is a module because what modules put out is what a pack's memory is estimated by.
    """

    def forward(self, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return [B, k, D, I] for experts chosen [B, k] of weights [E, D, I]."""
        gathered = nn.functional.embedding(chosen, weights.flatten(1))
        return gathered.view(*chosen.shape, *weights.shape[1:])


class MixtureLayer(WithAuxiliaryLoss):
    """y = sum over the top k experts of gate_e(x) * g(W_e x + b_e) (Shazeer et al., 2017).

    Gates are a softmax over the k largest of the gate's E logits, so they sum to 1, and k = E is
    the dense mixture; with k = 1 every gate is 1, so that only the balance teaches it. Only the
    weights of the chosen experts are gathered and multiplied, so the experts' FLOPs are
    proportional to k, whatever E (lecture, p. 65-67).

    While training it leaves `balance` times the load-balance loss of Switch Transformers (Fedus
    et al., 2021), E * sum_e f_e P_e, with f_e the share of choices that fell on expert e and P_e
    its mean probability over the rows. It is 1 where the load is even, and at most E.
    """

    def __init__(
        self,
        num_inputs: int,
        width: int,
        *,
        num_experts: int,
        top_k: int,
        balance: float,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.top_k, self.balance = top_k, balance
        self.gate = nn.Linear(num_inputs, num_experts)
        self.experts = nn.ModuleList(nn.Linear(num_inputs, width) for _ in range(num_experts))
        self.pick = PickWeights()
        self.act = activation_module(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, D] for x [B, I]."""
        logits = self.gate(x)
        chosen, gates = self.route(logits)
        weights, biases = self._stacked()
        own_weights = self.pick(chosen, weights)  # [B, k, D, I]
        products = (own_weights @ x[:, None, :, None]).squeeze(-1)  # [B, k, D]
        products = products + nn.functional.embedding(chosen, biases)
        hidden = self.act(products.flatten(0, 1)).view_as(products)  # one row per expert and row
        if self.training:
            self.auxiliary_loss = self.balance * load_balance_loss(logits, chosen)
        return (gates.unsqueeze(-1) * hidden).sum(1)  # type: ignore[no-any-return]

    def route(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return (experts [B, k], gates [B, k] that sum to 1) for the gate's logits [B, E]."""
        top, chosen = logits.topk(self.top_k, dim=-1)
        return chosen, torch.softmax(top, -1)

    def _stacked(self) -> tuple[Tensor, Tensor]:
        """Return the experts' weights [E, D, I] and biases [E, D]."""
        experts = [expert for expert in self.experts if isinstance(expert, nn.Linear)]
        return (
            torch.stack([expert.weight for expert in experts]),
            torch.stack([expert.bias for expert in experts]),
        )


def load_balance_loss(logits: Tensor, chosen: Tensor) -> Tensor:
    """Return E * sum_e f_e P_e, a number >= 0; its gradient reaches the gate through P alone.

    Args:
        logits: Of the gate, [B, E].
        chosen: Experts of each row, int64 [B, k].

    """
    num_experts = logits.shape[-1]
    hits = chosen.unsqueeze(-1) == torch.arange(num_experts, device=logits.device)  # [B, k, E]
    share = hits.to(logits.dtype).mean((0, 1))
    return num_experts * (share * torch.softmax(logits, -1).mean(0)).sum()


class MixtureOfExperts(nn.Module):
    """An MLP whose hidden layers are mixtures of experts; one expert makes it an ordinary MLP.

    Inputs [B, *input_shape] are flattened; outputs are [B, num_outputs].
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        depth: int = 2,
        width: int = 64,
        num_experts: int = 4,
        top_k: int = 2,
        balance: float = 0.01,
        activation: Activation = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = [math.prod(input_shape), *[width] * depth]
        self.layers = nn.ModuleList(
            nn.Sequential(
                MixtureLayer(
                    num_inputs,
                    width,
                    num_experts=num_experts,
                    top_k=top_k,
                    balance=balance,
                    activation=activation,
                ),
                LaneDropout(dropout),
            )
            for num_inputs in sizes[:-1]
        )
        self.head = nn.Linear(sizes[-1], num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits or numbers [B, num_outputs] for x [B, *input_shape]."""
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def num_moe_params(
    num_inputs: int, num_outputs: int, *, depth: int, width: int, num_experts: int
) -> int:
    """Return the number of parameters in closed form: E (D + 1) (inputs + 1) per layer, and a head.

    Each layer has a gate of E (inputs + 1) and E experts of D (inputs + 1).
    """
    sizes = [num_inputs, *[width] * depth]
    layers = sum(num_experts * (1 + width) * (size + 1) for size in sizes[:-1])
    return layers + (sizes[-1] + 1) * num_outputs
