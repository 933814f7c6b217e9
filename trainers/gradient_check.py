"""Are the trainer's gradients right? Finite differences in float64 decide (lecture, p. 26-27).

The trainer's own gradients, with penalties, are compared with central differences
(L(w + h) - L(w - h)) / 2h of the loss that the plain module computes, weight by weight. So a
mistake in a written-out backward pass, in a custom module's `autograd.Function`, or a graph cut by
`.detach()` shows as a wrong derivative of a named tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data import Dataset
from trainers.errors import ConfigError
from trainers.initialisation import initialise
from trainers.lanes.engines import Tier, make_engine, supported_tiers
from trainers.lanes.flat import FlatLayout
from trainers.lanes.lane_by_lane import LaneByLane
from trainers.lanes.prepared import dropouts_of, masks_from
from trainers.lanes.probe import probe
from trainers.losses import resolve_loss
from trainers.models import build_model, check_task
from trainers.models.auxiliary import layers_with_auxiliary_loss
from trainers.regularisation import LanePenalties

STEP = 1e-5
"""h, where float64's rounding (1e-11) and the cut series (1e-10) are both small."""
RETRY_STEP = 1e-7
"""Used where h stepped over a kink, such as ReLU's: a shorter step rarely does."""
TOLERANCE = 1e-5
"""Largest relative error that passes; a wrong derivative has one of the order of 1."""
NOISE_STD = 0.01
"""Added to initial weights, so that the test stands on no special point such as all zeros."""
_TINY = 1e-5
"""Derivatives below this share of their tensor's largest one are compared with that share."""


@dataclass(frozen=True, kw_only=True)
class TensorCheck:
    """What finite differences say of one parameter tensor."""

    name: str
    num_checked: int
    num_weights: int
    largest_error: float
    """|analytic - numeric| over the larger of the two."""
    analytic: float
    numeric: float
    """Both where the error is largest."""


@dataclass(frozen=True, kw_only=True)
class GradientCheck:
    """One way of computing gradients (tier), checked."""

    tier: str
    tensors: tuple[TensorCheck, ...]

    @property
    def worst(self) -> TensorCheck:
        """The tensor with the largest error."""
        return max(self.tensors, key=lambda tensor: tensor.largest_error)

    @property
    def passed(self) -> bool:
        """Whether every checked derivative is within the tolerance."""
        return self.worst.largest_error <= TOLERANCE

    @property
    def verdict(self) -> str:
        """The answer in one sentence."""
        worst, total = self.worst, sum(tensor.num_checked for tensor in self.tensors)
        if self.passed:
            return (
                f"right: {total} derivatives in {len(self.tensors)} tensors, by {self.tier}, agree "
                f"with finite differences to {worst.largest_error:.1e} (limit {TOLERANCE:g})"
            )
        wrong = [t.name for t in self.tensors if t.largest_error > TOLERANCE]
        return (
            f"WRONG: by {self.tier}, derivatives of {', '.join(wrong)} disagree with finite "
            f"differences; worst in {worst.name}: {worst.analytic:.6g} where {worst.numeric:.6g} "
            f"is right; look for a wrong backward, `.detach()`, or rounding in its forward pass"
        )


def check_gradients(
    config: TrialConfig,
    dataset: Dataset,
    *,
    num_rows: int = 16,
    per_tensor: int = 20,
    seed: int = 0,
) -> list[GradientCheck]:
    """Check every tier that may train this configuration, in float64, without dropout.

    Args:
        config: What to check; its precision is taken as float64 and its dropout as 0.
        dataset: The first training rows are used.
        num_rows: So many of them.
        per_tensor: Weights checked in each tensor, drawn at random.
        seed: Of the initial weights and of that draw.

    Raises:
        ConfigError: for a learning rule whose updates are not the gradient, or a model that does
            not fit the data.

    """
    rule = config.learning_rule.kind
    if rule != "backprop":
        raise ConfigError(
            f"gradients are checked for `learning_rule.kind: backprop`, but got {rule}, whose "
            "updates are its own; a search over rules reports `cos_backprop`, their cosine with "
            "the true gradient"
        )
    check_task(config.model, dataset.task)
    values: dict[str, Any] = {"train.precision": "float64"}
    if config.model.dropout:
        values["model.dropout"] = 0.0
    config = config.with_values(values)
    generator = torch.Generator().manual_seed(seed)
    module = build_model(config.model, dataset.input_shape, dataset.num_outputs).double()
    initialise(module, config.init, config.model.initial_activation, seed)
    layout = FlatLayout.of(module)
    row = torch.zeros(layout.size, dtype=torch.float64)
    layout.read(module, row)
    row += NOISE_STD * torch.randn(len(row), generator=generator, dtype=torch.float64)
    batch = dataset.to("cpu", torch.float64)
    x, y = batch.x_train[:num_rows], batch.y_train[:num_rows]
    loss = _loss_of_row(config, dataset, x, y, seed)
    places = {
        entry.name: entry.offset + torch.randperm(entry.size, generator=generator)[:per_tensor]
        for entry in layout.entries
    }
    return [
        GradientCheck(
            tier=tier,
            tensors=_compare(layout, places, row, _gradient(tier, config, dataset, module, row,
                                                            x, y, seed), loss),
        )
        for tier in _tiers(config, dataset)
    ]  # fmt: skip


def _tiers(config: TrialConfig, dataset: Dataset) -> list[Tier]:
    """Return the tiers that this configuration may be trained by."""
    tiers = supported_tiers(config)
    if "vmap" in tiers and not probe(partial(make_engine, "vmap"), [config], dataset).equal:
        tiers.remove("vmap")
    return tiers


def _gradient(
    tier: Tier,
    config: TrialConfig,
    dataset: Dataset,
    module: nn.Module,
    row: Tensor,
    x: Tensor,
    y: Tensor,
    seed: int,
) -> Tensor:
    """Return the trainer's gradient of one lane, penalties included, [P]."""
    with torch.no_grad():
        engine = make_engine(tier, module, [config], dataset)
        params = engine.from_canonical(row[None])
        grads = torch.zeros_like(params)
        buffers = {name: buffer[None].clone() for name, buffer in module.named_buffers()}
        smoothing = config.regularisation.label_smoothing
        lanes = engine.bind(params, grads, buffers, [config.model], [smoothing])
        seeds = [seed] if engine.draws else []
        lanes.gradients(engine.inputs(x)[None], engine.targets(y)[None].clone(), [], seeds)
        LanePenalties([config], params, grads, engine.layout.num_decaying).add_gradients()
        return engine.to_canonical(grads)[0]


def _loss_of_row(
    config: TrialConfig, dataset: Dataset, x: Tensor, y: Tensor, seed: int
) -> Callable[[Tensor], float]:
    """Return the loss, penalties included, as a function of a row of weights [P]."""
    kind = resolve_loss(config.train.loss, dataset.task)
    plain = LaneByLane(config.model, dataset, kind, "float64")
    module = plain.prepared(config.model).module
    layers = layers_with_auxiliary_loss(module)
    start = {name: buffer.clone() for name, buffer in module.named_buffers()}
    penalties = config.regularisation
    l1 = penalties.l1 if penalties.l1_form == "subgradient" else 0.0

    def loss(row: Tensor) -> float:
        plain.canonical.write(module, row)
        for name, buffer in module.named_buffers():
            buffer.copy_(start[name])
        with torch.no_grad(), torch.random.fork_rng(), masks_from(dropouts_of(module), []):
            torch.manual_seed(seed)
            outputs = module.train()(x)
            value = plain.training_loss(outputs, y, penalties.label_smoothing, layers)
        weights = row[: plain.canonical.num_decaying]
        return float(value + l1 * weights.abs().sum() + penalties.l2 * weights.square().sum())

    return loss


def _compare(
    layout: FlatLayout,
    places: dict[str, Tensor],
    row: Tensor,
    gradient: Tensor,
    loss: Callable[[Tensor], float],
) -> tuple[TensorCheck, ...]:
    found = []
    for entry in layout.entries:
        own = gradient[entry.offset : entry.offset + entry.size]
        floor = max(_TINY * float(own.abs().max()), 1e-8)
        pairs = []
        for place in places[entry.name].tolist():
            analytic = float(gradient[place])
            pairs.append(min(
                (_error(analytic, numeric, floor), analytic, numeric)
                for numeric in _slopes(loss, row, place, analytic, floor)
            ))  # fmt: skip
        error, analytic, numeric = max(pairs)
        found.append(
            TensorCheck(
                name=entry.name, num_checked=len(pairs), num_weights=entry.size,
                largest_error=error, analytic=analytic, numeric=numeric,
            )
        )  # fmt: skip
    return tuple(found)


def _slopes(
    loss: Callable[[Tensor], float], row: Tensor, place: int, analytic: float, floor: float
) -> list[float]:
    """Return the central difference at one weight, and one of a shorter step if they disagree."""
    slopes = []
    for step in (STEP, RETRY_STEP):
        moved = row.clone()
        moved[place] = row[place] + step
        above = loss(moved)
        moved[place] = row[place] - step
        slopes.append((above - loss(moved)) / (2 * step))
        if _error(analytic, slopes[-1], floor) <= TOLERANCE:
            break
    return slopes


def _error(analytic: float, numeric: float, floor: float) -> float:
    """Return the relative error; not a number counts as infinite."""
    error = abs(analytic - numeric) / max(abs(analytic), abs(numeric), floor)
    return error if error == error else float("inf")
