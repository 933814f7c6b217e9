"""Look into a model before or after a search: its gradients, its landscape, its compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import nn

from service.api import open_search
from service.search.spec import SearchSpec
from trainers.config import TrialConfig
from trainers.data import Dataset, load


def central_config(spec: SearchSpec) -> TrialConfig:
    """Return the spec's baseline, or else the centre of its space."""
    baseline = spec.baseline_config()
    if baseline is not None:
        return baseline
    return spec.configure(spec.space.from_unit([0.5] * len(spec.space)) if len(spec.space) else {})


def winner_of(search_id: str, ledger: str) -> tuple[nn.Module, TrialConfig, Dataset]:
    """Return a search's trained winner, its configuration and its data.

    Raises:
        LedgerError: if there is no such search, or it has no trained winner.

    """
    best = open_search(search_id, ledger=ledger).best
    module = best.load().module
    config = TrialConfig.from_mapping(best.config)
    return module, config, load(config.data)


def compression_rows(
    module: nn.Module, config: TrialConfig, dataset: Dataset, sparsities: Sequence[float]
) -> list[dict[str, Any]]:
    """Return metrics on the validation rows by sparsity, and last those of 8-bit weights."""
    from trainers.compression import quantise, sparsity_curve

    rows: list[dict[str, Any]] = [
        {"weights": f"{point.sparsity:.1%} cut", "sparsity": point.sparsity, **point.metrics}
        for point in sparsity_curve(module, config, dataset, sparsities)
    ]
    small = quantise(module)
    (point,) = sparsity_curve(small.module(), config, dataset, [0.0])
    shrunk = small.original_weight_bytes / small.weight_bytes
    return [
        *rows,
        {"weights": f"int8, {shrunk:.2f}x smaller", "sparsity": point.sparsity, **point.metrics},
    ]


def ticket_rows(
    config: TrialConfig, *, rounds: int, num_seeds: int, rewind_epoch: int, rate: float
) -> list[dict[str, Any]]:
    """Run the lottery-ticket experiment; return a row per round and arm, means over seeds."""
    import pandas as pd

    from trainers.tickets import find_tickets

    dataset = load(config.data)
    found = find_tickets(
        config, dataset, rounds=rounds, rate=rate, head_rate=rate / 2,
        seeds=range(num_seeds), rewind_epoch=rewind_epoch,
    )  # fmt: skip
    frame = pd.DataFrame([{**asdict(row), **row.metrics} for row in found.rows])
    shown = ["remaining", "early_stop_epoch", *(n for n in frame if str(n).startswith("val_"))]
    means = frame.groupby(["round", "arm"], sort=False)[shown].mean().reset_index()
    return [{str(key): value for key, value in row.items()} for row in means.to_dict("records")]
