"""Dropout whose noise can come from outside, so that packing never changes a trial's result."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

MaskSource = Callable[[Tensor], Tensor | None]
"""Takes activations and returns multipliers of the same shape, 0 or 1 / (1 - p); None keeps all."""


class LaneDropout(nn.Module):
    """Inverted dropout (lecture, p. 44-48).

    Used alone it is `nn.Dropout(p)`: noise from torch's global generator. In a pack the trainer
    sets `mask_source`, because the noise has to come from each trial's own seed and `p` differs
    between lanes; the source is then asked at every training step, also where `p` is 0.
    """

    mask_source: MaskSource | None

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.mask_source = None

    def forward(self, x: Tensor) -> Tensor:
        """Drop units while training; the identity in evaluation. Any shape in, the same out."""
        if not self.training:
            return x
        if self.mask_source is not None:
            mask = self.mask_source(x)
            return x if mask is None else x * mask
        return nn.functional.dropout(x, self.p, training=True)

    def extra_repr(self) -> str:
        """Show the rate in `print(model)`."""
        return f"p={self.p}"
