"""The section `model`: which network, how large, and what is inside."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from trainers.errors import nearest
from trainers.sections import Fraction, Section

Activation = Literal["sigmoid", "tanh", "relu", "elu", "identity"]


class ModelConfig(Section):
    """What is trained: a built-in kind, or any `nn.Module` through `factory`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: Literal["mlp", "cnn", "custom"] = "mlp"
    factory: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    """`package.module:function`, called with (input_shape, num_outputs, **other model keys)."""
    depth: Annotated[int, Field(ge=0, le=1000)] = 2
    """Hidden layers (mlp) or convolution blocks (cnn). 1 is the lecture's one-hidden-layer net."""
    width: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Units of each hidden layer (mlp) or channels of the first convolution (cnn)."""
    activation: Activation = "relu"
    dropout: Fraction = 0.0
    """Probability that a hidden unit is dropped (inverted dropout, as `nn.Dropout(p)`)."""
    batch_norm: Literal["none", "before", "after"] = "none"
    """Batch normalisation before or after the activation."""
    bn_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    """Torch's way: running = (1 - bn_momentum) * running + bn_momentum * batch. Default 0.1."""
    bn_decay: Fraction | None = None
    """The lecture's way (p. 53): running = bn_decay * running + (1 - bn_decay) * batch."""

    @model_validator(mode="after")
    def _kinds_and_keys_agree(self) -> Self:
        if self.bn_momentum is not None and self.bn_decay is not None:
            raise ValueError(
                "`model.bn_momentum` and `model.bn_decay` are one number said two ways "
                f"(decay = 1 - momentum), but got {self.bn_momentum} and {self.bn_decay}; keep one"
            )
        if (self.factory is None) == (self.kind == "custom") and not (
            self.factory is not None and "kind" not in self.model_fields_set
        ):
            raise ValueError(
                "`model.factory` belongs to `model.kind: custom`, but got "
                f"kind {self.kind!r} and factory {self.factory!r}"
            )
        unknown = sorted(self.model_extra or {})
        if unknown and self.factory is None:
            valid = list(type(self).model_fields)
            raise ValueError(f"unknown key `model.{unknown[0]}`{nearest(unknown[0], valid)}")
        return self

    @property
    def running_momentum(self) -> float:
        """Torch's momentum of the running statistics, whichever way it was given."""
        if self.bn_decay is not None:
            return 1.0 - self.bn_decay
        return 0.1 if self.bn_momentum is None else self.bn_momentum
