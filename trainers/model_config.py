"""The section `model`: which network, how large, and what is inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from trainers.errors import nearest
from trainers.sections import Count, Fraction, NonNegative, Section

ModelKind = Literal[
    "mlp", "cnn", "local", "resmlp", "rescnn", "dense", "capsule",
    "rnn", "lstm", "gru", "transformer", "moe", "custom",
]  # fmt: skip
Activation = Literal["sigmoid", "tanh", "relu", "elu", "identity"]

KINDS_OF_KEYS: dict[str, tuple[str, ...]] = {
    "activation": (
        "mlp",
        "cnn",
        "local",
        "resmlp",
        "rescnn",
        "dense",
        "capsule",
        "rnn",
        "transformer",
        "moe",
    ),
    "batch_norm": ("mlp", "cnn", "local", "resmlp", "rescnn", "dense", "capsule"),
    "tied": ("local",),
    "kernel_size": ("local", "capsule"),
    "head_width": ("local",),
    "skip": ("resmlp", "rescnn"),
    "scalars": ("resmlp", "rescnn"),
    "capsule_size": ("capsule",),
    "class_capsule_size": ("capsule",),
    "routing_iterations": ("capsule",),
    "language_model": ("rnn", "lstm", "gru", "transformer"),
    "heads": ("transformer",),
    "window": ("transformer",),
    "num_experts": ("moe",),
    "top_k": ("moe",),
    "balance": ("moe",),
}
"""Keys that only some built-in kinds read; elsewhere they must keep their defaults."""


class ModelConfig(Section):
    """What is trained: a built-in kind, or any `nn.Module` through `factory`."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: ModelKind = "mlp"
    """local: locally connected; resmlp, rescnn: residual; dense: each layer sees all before it."""
    factory: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$")] | None = None
    """`package.module:function`, called with (input_shape, num_outputs, **other model keys)."""
    depth: Annotated[int, Field(ge=0, le=1000)] = 2
    """Hidden layers (mlp, dense, moe), convolution blocks (cnn), convolutions (local, capsule),
    residual blocks of two layers (resmlp: 54 are 110 layers) or of each of three stages (rescnn:
    18 are 110), recurrent layers, transformer blocks. 1 is the lecture's one-hidden-layer net."""
    width: Annotated[int, Field(ge=1, le=1_000_000)] = 128
    """Units of each hidden layer (mlp, resmlp, dense, moe), channels of the first convolution
    (cnn, local, rescnn; capsule: of each), numbers of a recurrent state or a transformer's
    vectors."""
    activation: Activation = "relu"
    """Of hidden units, and of an rnn's state; lstm and gru have their own."""
    dropout: Fraction = 0.0
    """Probability that a hidden unit is dropped (inverted dropout, as `nn.Dropout(p)`)."""
    batch_norm: Literal["none", "before", "after"] = "none"
    """Batch normalisation before or after the activation."""
    bn_momentum: Annotated[float, Field(gt=0, le=1)] | None = None
    """Torch's way: running = (1 - bn_momentum) * running + bn_momentum * batch. Default 0.1."""
    bn_decay: Fraction | None = None
    """The lecture's way (p. 53): running = bn_decay * running + (1 - bn_decay) * batch."""

    tied: bool = False
    """local: share one kernel between all positions, which makes it a conv net (p. 34)."""
    kernel_size: Count = 3
    """local, capsule: side of a receptive field; odd."""
    head_width: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """local: units of a fully connected layer before the head; 0: none. Page 34 has 1024."""
    skip: bool = True
    """resmlp, rescnn: add each block's input to its output. False: the same layers, no addition."""
    scalars: bool = False
    """resmlp, rescnn: Fixup's scalar biases, and a multiplier per branch, in place of biases."""
    capsule_size: Count = 8
    """capsule: numbers in a primary capsule; divides `width`."""
    class_capsule_size: Count = 16
    """capsule: numbers in the capsule of each class."""
    routing_iterations: Annotated[int, Field(ge=1, le=20)] = 3
    """capsule: rounds of dynamic routing by agreement (p. 66)."""
    language_model: bool = False
    """rnn, lstm, gru, transformer: read tokens through an embedding, see no later ones, and
    answer at every position with the next; for data of task language, and no other."""
    heads: Count = 4
    """transformer: attention heads; they divide `width`."""
    window: Count | None = None
    """transformer: position i sees j where |i - j| < window; None: all positions."""
    num_experts: Count = 4
    """moe: experts of each hidden layer, each of `width` units."""
    top_k: Count = 2
    """moe: experts that compute a row; at most `num_experts`."""
    balance: NonNegative = 0.01
    """moe: weight of the load-balance loss, which is 1 per layer where the load is even."""

    @model_validator(mode="before")
    @classmethod
    def _factory_makes_it_custom(cls, values: Any) -> Any:
        """Write the kind out, so that a configuration read back from a ledger still agrees."""
        if isinstance(values, Mapping) and values.get("factory") and "kind" not in values:
            return {**values, "kind": "custom"}
        return values

    @model_validator(mode="after")
    def _kinds_have_their_keys(self) -> Self:
        for name, kinds in KINDS_OF_KEYS.items():
            default, value = type(self).model_fields[name].default, getattr(self, name)
            if value != default and self.kind not in kinds and self.factory is None:
                raise ValueError(
                    f"`model.{name}` belongs to `model.kind: {' or '.join(kinds)}`, but got "
                    f"{value!r} for {self.kind}; leave it out"
                )
        if self.kind == "transformer" and self.width % self.heads:
            raise ValueError(
                "`model.heads` must divide `model.width`, but got "
                f"{self.heads} and {self.width}; try a width of {self.heads * self._per_head}"
            )
        if self.kind == "moe" and self.top_k > self.num_experts:
            raise ValueError(
                "`model.top_k` must be <= `model.num_experts`, but got "
                f"{self.top_k} and {self.num_experts}; lower `model.top_k`"
            )
        return self

    @model_validator(mode="after")
    def _spatial_and_residual_values_fit(self) -> Self:
        if self.kind in ("local", "capsule") and self.kernel_size % 2 == 0:
            raise ValueError(
                "`model.kernel_size` must be odd, so that a receptive field has a centre, but got "
                f"{self.kernel_size}; try {self.kernel_size + 1}"
            )
        if self.kind in ("resmlp", "rescnn") and self.batch_norm == "after":
            raise ValueError(
                f"`model.batch_norm` of a {self.kind} stands before the activation, where each "
                "branch ends, but got 'after'; use 'before' or 'none'"
            )
        if self.scalars and self.batch_norm != "none":
            raise ValueError(
                "`model.scalars` stand in for normalisation (Fixup), but got "
                f"`model.batch_norm` {self.batch_norm!r} as well; keep one of them"
            )
        if self.kind == "capsule" and self.width % self.capsule_size:
            lower = max(1, self.width // self.capsule_size) * self.capsule_size
            raise ValueError(
                "`model.capsule_size` must divide `model.width`, as primary capsules are groups "
                f"of channels, but got {self.capsule_size} and {self.width}; try width {lower}"
            )
        return self

    @model_validator(mode="after")
    def _kinds_and_keys_agree(self) -> Self:
        if self.bn_momentum is not None and self.bn_decay is not None:
            raise ValueError(
                "`model.bn_momentum` and `model.bn_decay` are one number said two ways "
                f"(decay = 1 - momentum), but got {self.bn_momentum} and {self.bn_decay}; keep one"
            )
        if (self.factory is None) == (self.kind == "custom"):
            raise ValueError(
                "`model.factory` belongs to `model.kind: custom`, but got "
                f"kind {self.kind!r} and factory {self.factory!r}"
            )
        unknown = sorted(self.model_extra or {})
        if unknown and self.factory is None:
            valid = list(type(self).model_fields)
            raise ValueError(f"unknown key `model.{unknown[0]}`{nearest(unknown[0], valid)}")
        return self

    @model_serializer(mode="wrap")
    def _only_keys_that_the_factory_gets(self, serialise: SerializerFunctionWrapHandler) -> Any:
        """Leave out built-in keys that nobody set: written down, they would reach the factory."""
        values = serialise(self)
        if self.factory is None:
            return values
        return {key: value for key, value in values.items() if key in self.model_fields_set}

    @property
    def _per_head(self) -> int:
        """Width of a head, rounded."""
        return max(1, round(self.width / self.heads))

    @property
    def initial_activation(self) -> Activation:
        """What decides `init.kind: auto`: lstm and gru have tanh, whatever `activation` says."""
        return "tanh" if self.kind in ("lstm", "gru") else self.activation

    @property
    def running_momentum(self) -> float:
        """Torch's momentum of the running statistics, whichever way it was given."""
        if self.bn_decay is not None:
            return 1.0 - self.bn_decay
        return 0.1 if self.bn_momentum is None else self.bn_momentum
