"""Sizes of nets (p. 14, 15), depth against width (p. 16), and what going back needs (p. 28, 29)."""

from __future__ import annotations

import math
from typing import Annotated

import pandas as pd
import torch
from pydantic import Field
from torch import Tensor

from service.lecture.findings import Findings, label, new_figure
from trainers.config import Activation, Count, DataConfig, ModelConfig, Section, TrialConfig
from trainers.data import load
from trainers.flops import count_params
from trainers.lanes.pack import train_pack
from trainers.models.mlp import Mlp
from trainers.trial import Trial


class Sizes(Section):
    """A net of one hidden layer and one output; 3 inputs and 3 units are the page's figure."""

    inputs: Count = 3
    widths: tuple[Count, ...] = (1, 2, 3, 4, 6, 8, 12, 16)


def sizes(settings: Sizes) -> Findings:
    """Count the parameters of each width, beside hd + 2h + 1."""
    d = settings.inputs
    rows = [
        {"width": h, "counted": count_params(Mlp((d,), 1, depth=1, width=h))[0],
         "formula": h * d + 2 * h + 1}
        for h in settings.widths
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    figure, axes = new_figure()
    axes[0, 0].plot(table["width"], table["formula"], label="hd + 2h + 1")
    axes[0, 0].plot(table["width"], table["counted"], "o", label="counted")
    label(axes[0, 0], f"{d} inputs, h hidden units, 1 output", "hidden units h", "parameters")
    measures: dict[str, float | str] = {
        "parameters of the figure (3-3-1)": float(count_params(Mlp((3,), 1, depth=1, width=3))[0]),
        "largest difference": float((table["counted"] - table["formula"]).abs().max()),
    }
    return Findings(table=table, measures=measures, figure=figure)


class Depths(Section):
    """Nets of about the same number of parameters, from shallow to deep."""

    params: Annotated[int, Field(ge=500)] = 6000
    depths: tuple[Count, ...] = (1, 2, 3, 5)
    activation: Activation = "relu"
    epochs: Count = 20
    data: str = "mnist1d"
    seeds: Count = 3


def depth_or_width(settings: Depths) -> Findings:
    """Train each shape with several seeds and compare validation errors."""
    data = load(DataConfig(name=settings.data))
    figure, axes = new_figure(1, 2)
    rows, measures = [], dict[str, float | str]()
    for depth in settings.depths:
        num_inputs = math.prod(data.input_shape)
        width = width_for(settings.params, depth, num_inputs, data.num_outputs)
        config = TrialConfig(
            data=DataConfig(name=settings.data),
            model=ModelConfig(depth=depth, width=width, activation=settings.activation),
        ).with_values({"train.epochs": settings.epochs, "optimizer.lr": 0.003})
        trials = [Trial(trial_id=i, config=config, seed=i) for i in range(settings.seeds)]
        result = train_pack(trials, None, settings.epochs, dataset=data)
        errors = [float(row.metrics["val_error"]) for row in result.rows]
        params = count_params(Mlp(data.input_shape, data.num_outputs, depth=depth, width=width))[0]
        rows += [
            {"depth": depth, "width": width, "params": params, "seed": seed, "val_error": error}
            for seed, error in enumerate(errors)
        ]
        measures[f"validation error, depth {depth}, width {width}"] = sum(errors) / len(errors)
    table = pd.DataFrame(rows)
    axes[0, 0].plot(table["depth"], table["val_error"], "o")
    axes[0, 0].set_xticks(sorted(settings.depths))
    counts = table.groupby("depth")["params"].first()
    axes[0, 1].bar([str(depth) for depth in counts.index], counts)
    measures["parameters, largest over smallest"] = float(counts.max() / counts.min())
    label(axes[0, 0], f"{settings.data}, every seed", "hidden layers", "validation error",
          legend=False)  # fmt: skip
    label(axes[0, 1], "size of each net", "hidden layers", "parameters", legend=False)
    return Findings(table=table, measures=measures, figure=figure)


def width_for(params: int, depth: int, num_inputs: int, num_outputs: int) -> int:
    """Return the width at which an MLP has about `params` parameters.

    They are (depth - 1) w^2 + (inputs + outputs + depth) w + outputs; the root of it is rounded.
    """
    square, linear = depth - 1, num_inputs + num_outputs + depth
    left = num_outputs - params
    if square == 0:
        return max(1, round(-left / linear))
    return max(1, round((-linear + math.sqrt(linear**2 - 4 * square * left)) / (2 * square)))


class Memory(Section):
    """What a forward pass keeps for the way back."""

    depths: tuple[Count, ...] = (1, 2, 4, 8, 16)
    width: Count = 64
    batch_sizes: tuple[Count, ...] = (16, 64)


def memory(settings: Memory) -> Findings:
    """Count the bytes of activations that autograd stores, layer by layer; weights are shared."""
    figure, axes = new_figure()
    rows, measures = [], dict[str, float | str]()
    for batch_size in settings.batch_sizes:
        for depth in settings.depths:
            stored = stored_bytes(depth, settings.width, batch_size)
            rows.append({"batch_size": batch_size, "depth": depth, "stored_bytes": stored})
        own = [row for row in rows if row["batch_size"] == batch_size]
        kilobytes = [row["stored_bytes"] / 1e3 for row in own]
        axes[0, 0].plot(settings.depths, kilobytes, "o-", label=f"batch {batch_size}")
        more_layers = max(own[-1]["depth"] - own[0]["depth"], 1)
        per_layer = (own[-1]["stored_bytes"] - own[0]["stored_bytes"]) / more_layers
        measures[f"floats stored per row and layer, batch {batch_size}"] = per_layer / (
            4 * batch_size
        )
    measures["units per layer"] = float(settings.width)
    label(axes[0, 0], "activations stored for the way back", "hidden layers", "kB")
    return Findings(table=pd.DataFrame(rows), measures=measures, figure=figure)


def stored_bytes(depth: int, width: int, batch_size: int) -> int:
    """Return the bytes that autograd saves in a forward pass, each storage once, no weights."""
    model = Mlp((width,), 10, depth=depth, width=width, activation="tanh")
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(torch.randn(batch_size, width))
    del out
    return sum(seen.values())
