"""What models of sequences have in common: reading rows as steps, and tokens as vectors.

Shapes: B rows, T steps, F features of a step, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainers.errors import ConfigError

EMBEDDING_STD = 0.02
"""Initial standard deviation of embeddings (GPT-2; Radford et al., 2019)."""


class Embedding(nn.Embedding):
    """`nn.Embedding` that starts small, so that the first loss is near that of knowing nothing."""

    def reset_parameters(self) -> None:
        """Draw N(0, 0.02^2)."""
        nn.init.normal_(self.weight, std=EMBEDDING_STD)


def sequence_shape(
    input_shape: tuple[int, ...], *, kind: str, language_model: bool
) -> tuple[int, int]:
    """Return (steps T, features F of a step) of a row; F is 1 token for a language model.

    Raises:
        ConfigError: for rows without an order of steps, and for tokens that are no sequence.

    """
    if language_model:
        if len(input_shape) != 1:
            raise ConfigError(
                "`model.language_model` reads rows of tokens, (context,), but the data's input "
                f"shape is {input_shape}; use `data.name: stdlib-bytes`, or leave it out"
            )
        return input_shape[0], 1
    if len(input_shape) == 2:
        channels, length = input_shape
        return length, channels
    if len(input_shape) == 3:
        channels, height, width = input_shape
        return height, channels * width
    raise ConfigError(
        f"`model.kind: {kind}` needs inputs with an order, (channels, length) or (channels, "
        f"height, width), but the data's input shape is {input_shape}; flat tables have no order "
        "to read in: use `model.kind: mlp`, or register an .npz whose features are "
        "[rows, channels, length]"
    )


def as_steps(x: Tensor) -> Tensor:
    """Return signals [B, C, T] as [B, T, C] and images [B, C, H, W] row by row, [B, H, C * W]."""
    if x.dim() == 3:
        return x.transpose(1, 2)
    return x.permute(0, 2, 1, 3).flatten(2)
