"""A transformer: a classifier of sequences, or a language model over tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainers.activations import activation_module
from trainers.config import Activation
from trainers.errors import ConfigError
from trainers.models.attention import Attention
from trainers.models.dropout import LaneDropout
from trainers.models.sequences import Embedding, as_steps, sequence_shape

WIDENING = 4
"""Hidden units of a block's feed-forward part, per unit of width."""


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), dropout at the end of each branch.

    Normalisation stands before each branch, which trains without warm-up (Xiong et al., 2020).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        window: int | None,
        causal: bool,
        activation: Activation,
        dropout: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, window=window, causal=causal)
        self.attention_dropout = LaneDropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, WIDENING * width),
            activation_module(activation),
            nn.Linear(WIDENING * width, width),
        )
        self.feed_forward_dropout = LaneDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, T, D] for x [B, T, D]."""
        x = x + self.attention_dropout(self.attention(self.attention_norm(x)))
        # Every position is a row of its own here, as diagnostics expect of activations.
        rows = self.feed_forward(x.flatten(0, 1))
        return x + self.feed_forward_dropout(rows.view_as(x))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Vectors plus learned positions, `depth` blocks, a last normalisation and a linear head.

    A classifier reads signals step by step and images row by row, each step through a linear map,
    and answers from the mean over positions. A language model embeds tokens, hides later
    positions, and answers at every position with the next token.

    Raises:
        ConfigError: for rows without an order, and for a window longer than the sequence.

    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        *,
        depth: int = 2,
        width: int = 64,
        heads: int = 4,
        window: int | None = None,
        activation: Activation = "relu",
        dropout: float = 0.0,
        language_model: bool = False,
    ) -> None:
        super().__init__()
        length, features = sequence_shape(
            input_shape, kind="transformer", language_model=language_model
        )
        if window is not None and window > length:
            raise ConfigError(
                f"`model.window` must be <= the sequence's {length} positions, but got {window}; "
                "lower it, or leave it out to see all positions"
            )
        self.language_model = language_model
        self.read: nn.Module = (
            Embedding(num_outputs, width) if language_model else nn.Linear(features, width)
        )
        self.positions = Embedding(length, width)
        self.layers = nn.ModuleList(
            TransformerBlock(
                width,
                heads,
                window=window,
                causal=language_model,
                activation=activation,
                dropout=dropout,
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, num_outputs], or [B, T, num_outputs] of a language model.

        Args:
            x: [B, channels, *sizes], or tokens [B, T] written as numbers; T may be shorter than
                what the model was built for.

        """
        x = self.read(x.long()) if self.language_model else self.read(as_steps(x))
        places = torch.arange(x.shape[1], device=x.device)
        x = x + self.positions(places)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        x = x if self.language_model else x.mean(1)
        return self.head(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def num_transformer_params(
    length: int, features: int, num_outputs: int, *, depth: int, width: int, tokens: int = 0
) -> tuple[int, int]:
    """Return (all parameters, those outside embeddings) in closed form.

    Each block has 12 D^2 + 13 D: 4 D^2 + 4 D of attention, 8 D^2 + 5 D of the feed-forward part
    and 4 D of two normalisations. So a decoder has about 12 L D^2 outside embeddings (Kaplan et
    al., 2020; lecture, p. 64).
    """
    blocks = depth * (12 * width**2 + 13 * width)
    outside = blocks + 2 * width + (width + 1) * num_outputs
    if not tokens:
        outside += (features + 1) * width
    return outside + (tokens + length) * width, outside
