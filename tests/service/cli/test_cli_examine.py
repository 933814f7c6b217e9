"""`isoflop gradcheck`, `tickets`, `landscape`, `compress` and `predict --passes`, as typed."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from test_cli_running import isoflop

SPEC = """
name: dropped
data: {name: digits, num_train: 200}
model: {kind: mlp, depth: 1, width: 16, dropout: 0.3}
train: {epochs: 2, batch_size: 50, statistics: true}
space: {optimizer.lr: {log_uniform: [1e-3, 1e-1]}}
rounds: [{sampler: random, trials: 2}]
finalists: {trials: 1, seeds: 2}
recipe: {checks: false}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examine")
    (folder / "spec.yaml").write_text(SPEC)
    done = isoflop("search", "spec.yaml", "--workers", "1", "--out", "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_gradients_are_checked_from_a_spec(folder):
    done = isoflop("gradcheck", "spec.yaml", "--per-tensor", "3", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("right: ") == 3
    refused = isoflop(
        "gradcheck", "spec.yaml", "--set", "learning_rule.kind=oja", "--set", "model.dropout=0",
        cwd=folder,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "backprop" in refused.stderr


def test_tickets_are_found_from_a_spec(folder):
    done = isoflop("tickets", "spec.yaml", "--rounds", "1", "--seeds", "1", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    arms = [row["arm"] for row in json.loads(done.stdout)]
    assert arms == ["dense", "ticket", "reinitialised", "random_mask"]


def test_a_landscape_is_drawn_with_its_numbers_and_scores(folder):
    done = isoflop(
        "landscape", "dropped-1", "--size", "5", "--rows", "50", "--out", "hill.png", "--json",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = json.loads(done.stdout)
    assert 0 <= row["negative_curvature"] <= 1
    assert (folder / "hill.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(folder / "hill.csv")) == 25
    even = isoflop("landscape", "dropped-1", "--size", "4", cwd=folder)
    assert even.returncode == 2
    assert "must be odd" in even.stderr


def test_compression_is_measured(folder):
    done = isoflop("compress", "dropped-1", "--sparsity", "0.5", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    cut, small = json.loads(done.stdout)
    assert cut["sparsity"] >= 0.5
    assert small["weights"].startswith("int8, 3.9")


def test_predictions_come_with_their_spread(folder):
    np.savez(folder / "rows.npz", x=np.random.default_rng(0).uniform(0, 16, (5, 64)))
    done = isoflop(
        "predict", "dropped-1", "rows.npz", "--passes", "10", "--out", "p.csv", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    frame = pd.read_csv(folder / "p.csv")
    assert list(frame) == ["prediction", "probability", "std"]
    assert (frame["std"] > 0).all()
    one = isoflop("predict", "dropped-1", "rows.npz", "--passes", "1", cwd=folder)
    assert one.returncode == 2
    assert "at least 2 passes" in one.stderr


def test_statistics_are_in_the_curves(folder):
    done = isoflop("export", "dropped-1", "--out", "tables", "--format", "csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    curves = pd.read_csv(folder / "tables" / "curves.csv")
    assert {"dead_share", "saturated_share", "spread_ratio", "update_ratio"} <= set(curves)
