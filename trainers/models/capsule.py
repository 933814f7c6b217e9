"""Capsules and dynamic routing between them (lecture, p. 31 and 66).

Sabour, Frosst & Hinton, "Dynamic routing between capsules" (2017). Shapes: B rows; N primary
capsules of D numbers; C class capsules of E numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from trainers.config import Activation
from trainers.models.mlp import BatchNormPlace, hidden_block
from trainers.models.routing import TINY, routed, squash
from trainers.models.spatial import check_halvings, check_kernel, halved, spatial_layers


class CapsulePredictions(nn.Module):
    """What each primary capsule predicts of each class capsule: u_hat = W u.

    `weight` [N * C * E, D] has one row per predicted number, N * C * E * D parameters, no biases.
    """

    def __init__(self, num_capsules: int, size: int, num_classes: int, class_size: int) -> None:
        super().__init__()
        self.shape = (num_capsules, num_classes, class_size, size)
        self.weight_fans = (size, class_size)
        bound = 1 / math.sqrt(size)
        rows = num_capsules * num_classes * class_size
        self.weight = nn.Parameter(torch.empty(rows, size).uniform_(-bound, bound))
        self.bias = None

    def forward(self, u: Tensor) -> Tensor:
        """Return u_hat [B, N, C, E] for u [B, N, D]."""
        return torch.einsum("nced,bnd->bnce", self.weight.view(self.shape), u)


class DynamicRouting(nn.Module):
    """Routing by agreement: each primary capsule sends more to the classes that agree with it.

    The coefficients c [B, N, C] are a softmax over the classes, so they sum to 1 for each primary
    capsule; they start equal, and grow with the agreement u_hat . v. Gradients flow through all
    iterations.
    """

    def __init__(self, iterations: int = 3) -> None:
        super().__init__()
        self.iterations = iterations

    def route(self, u_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Return (s [B, C, E], c [B, N, C]) of the last iteration for u_hat [B, N, C, E].

        Gradients flow from s alone.
        """
        s, c = routed(u_hat.transpose(1, 2), self.iterations)
        return s, c.transpose(1, 2)

    def forward(self, u_hat: Tensor) -> Tensor:
        """Return the class capsules before squashing, s [B, C, E]."""
        return self.route(u_hat)[0]


class CapsuleNet(nn.Module):
    """`depth` convolutions, primary capsules, and one capsule per class, by dynamic routing.

    All convolutions have `width` channels and stride 2. The last one, without an activation,
    makes width / capsule_size primary capsules at each position. A class capsule's length
    |v| = |s|^2 / (1 + |s|^2) is the probability that the class is present, and its logit is
    log(|v| / (1 - |v|)) = log |s|^2: that is what comes out, so cross-entropy compares the
    classes. (The paper has a margin loss on the lengths.)

    Raises:
        ConfigError: for flat inputs, and for more convolutions than the input can be halved.

    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        depth: int = 1,
        width: int = 32,
        activation: Activation = "relu",
        dropout: float = 0.0,
        batch_norm: BatchNormPlace = "none",
        bn_momentum: float = 0.1,
        kernel_size: int = 3,
        capsule_size: int = 8,
        class_capsule_size: int = 16,
        routing_iterations: int = 3,
    ) -> None:
        super().__init__()
        layers = spatial_layers("capsule", input_shape)
        check_kernel(input_shape, kernel_size)
        check_halvings("capsule", input_shape, depth + 1, "lower `model.depth`")
        channels, sizes = input_shape[0], input_shape[1:]

        def conv() -> nn.Module:
            return layers.conv(channels, width, kernel_size, stride=2, padding=kernel_size // 2)

        self.layers = nn.ModuleList()
        for _ in range(depth):
            norm = layers.norm(width, momentum=bn_momentum) if batch_norm != "none" else None
            self.layers.append(
                hidden_block(
                    "conv",
                    conv(),
                    norm,
                    activation=activation,
                    dropout=dropout,
                    batch_norm=batch_norm,
                )
            )
            channels, sizes = width, halved(sizes)
        self.primary = conv()
        self.capsule_size = capsule_size
        num_capsules = width // capsule_size * math.prod(halved(sizes))
        self.predictions = CapsulePredictions(
            num_capsules, capsule_size, num_outputs, class_capsule_size
        )
        self.routing = DynamicRouting(routing_iterations)

    def forward(self, x: Tensor) -> Tensor:
        """Return each class's log-odds of being present, [B, num_outputs], for x [B, C, *sizes]."""
        s = self.routing(self.predictions(self.primary_capsules(x)))
        return (s.square().sum(-1) + TINY).log()  # type: ignore[no-any-return]

    def primary_capsules(self, x: Tensor) -> Tensor:
        """Return the squashed primary capsules u [B, N, D] for x [B, channels, *sizes]."""
        for layer in self.layers:
            x = layer(x)
        u = self.primary(x).flatten(2).unflatten(1, (-1, self.capsule_size))  # [B, groups, D, P]
        return squash(u.transpose(2, 3).flatten(1, 2))
