"""Searches over recurrent nets, transformers, mixtures and languages, from a spec to a winner."""

from __future__ import annotations

import pytest
from small_search import small_spec

from service import run_search
from service.recipe import initial_loss, measure
from service.search.prepare import prepare
from trainers.config import DataConfig, ModelConfig
from trainers.data import load
from trainers.errors import ConfigError
from trainers.models import build_model

TINY = {
    "train": {"epochs": 2, "batch_size": 32},
    "rounds": [{"sampler": "random", "trials": 6, "epochs": 2}],
    "finalists": {"trials": 1, "seeds": 2},
}


def test_a_search_over_architectures(tmp_path):
    spec = small_spec(
        **TINY,
        data={"name": "mnist1d", "num_train": 64},
        model={"depth": 1, "width": 8},
        space={
            "model.kind": ["gru", "transformer", "moe"],
            "model.heads": {"choice": [1, 2], "when": {"model.kind": "transformer"}},
            "model.top_k": {"choice": [1, 4], "when": {"model.kind": "moe"}},
            "optimizer.lr": {"log_uniform": [1e-3, 1e-1]},
        },
    )
    result = run_search(spec, workers=1, ledger=tmp_path / "ledger.db", out=tmp_path / "out")
    trials = result.trials()
    assert set(trials["state"]) == {"complete"}
    assert set(trials["param.model.kind"].dropna()) == {"gru", "transformer", "moe"}
    assert trials["num_params"].nunique() == 3


def test_a_search_for_bits_per_byte(tmp_path):
    spec = small_spec(
        **TINY,
        data={"name": "stdlib-bytes", "context": 16, "num_train": 512, "val_fraction": 0.002,
              "test_fraction": 0.002},
        model={"kind": "transformer", "language_model": True, "depth": 1, "width": 16},
        space={
            "model.window": [4, 16],
            "optimizer.lr": {"log_uniform": [1e-3, 3e-2]},
        },
    )  # fmt: skip
    result = run_search(spec, workers=1, ledger=tmp_path / "ledger.db", out=tmp_path / "out")
    searched = result.trials().query("role == 'search'")
    assert (searched["val_bits_per_byte"] < 8).all()
    best = searched["val_bits_per_byte"].min()
    assert searched["val_loss"].min() == pytest.approx(best * 0.6931471805599453)


def test_without_objectives_a_language_is_searched_for_bits_per_byte():
    assert small_spec().for_task("language").objectives == {"val_bits_per_byte": "minimize"}
    named = small_spec(objectives={"val_error": "minimize"})
    assert named.for_task("language").objectives == {"val_error": "minimize"}


def test_step_1_knows_what_knowing_nothing_of_a_byte_costs():
    dataset = load(DataConfig(name="stdlib-bytes", context=8, num_train=64))
    config = ModelConfig(kind="transformer", language_model=True)
    model = build_model(config, dataset.input_shape, dataset.num_outputs)
    facts = measure(model, dataset.x_train, dataset.y_train, "token_cross_entropy")
    verdict = initial_loss(
        facts, dummy_loss=dataset.dummy_loss(), num_outputs=256, loss="token_cross_entropy"
    )
    assert verdict.passed
    assert "ln 256 = 5.545" in verdict.reason


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"kind": "transformer", "window": 41}}, "`model.window` must be <= the seq"),
        ({"model": {"kind": "gru", "language_model": True}}, "is for data of task language"),
        ({"objectives": {"val_bits_per_byte": "minimize"}}, "does not exist for classification"),
        ({"model": {"kind": "transformer", "width": 9, "heads": 2}}, "must divide `model.width`"),
        ({"model": {"kind": "moe", "top_k": 9}}, "`model.top_k` must be <="),
        ({"model": {"kind": "capsule", "kernel_size": 41}}, "`model.kernel_size` must be <= .* 40"),
        ({"model": {"kind": "lstm", "activation": "elu"}}, "`model.activation` belongs to"),
        ({"init": {"kind": "fixup"}}, "^`init.kind: fixup` .* needs skip connections"),
        ({"data": "stdlib-bytes", "model": {"kind": "mlp"}}, "needs `model.language_model: true`"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(changes, message, tmp_path):
    values = {"data": {"name": "mnist1d"}, "space": {"optimizer.lr": [1e-3, 1e-2]}, **changes}
    with pytest.raises(ConfigError, match=message):
        prepare(small_spec(**values), tmp_path)
