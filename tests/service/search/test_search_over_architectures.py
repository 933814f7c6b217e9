"""Searches whose dimensions are architectures and their own keys."""

from __future__ import annotations

import pytest
from small_search import small_spec

from service import run_search
from trainers.errors import ConfigError, SpaceError

KINDS = ["local", "resmlp", "rescnn", "dense", "capsule"]
TINY = {
    "data": {"name": "mnist1d", "num_train": 100},
    "train": {"epochs": 2, "batch_size": 50},
    "finalists": {"trials": 1, "seeds": 2},
}


@pytest.fixture
def run(tmp_path):
    def run(**changes):
        spec = small_spec(**{**TINY, **changes})
        return run_search(spec, workers=1, ledger=tmp_path / "ledger.db", out=tmp_path / "out")

    return run


def test_the_kind_of_model_is_a_dimension(run):
    found = run(
        model={"depth": 1, "width": 8},
        space={"model.kind": KINDS, "optimizer.lr": {"log_uniform": [1e-3, 1e-2]}},
        rounds=[{"sampler": "random", "trials": 15, "epochs": 2}],
    )
    searched = found.trials().query("role == 'search'")
    assert set(searched["param.model.kind"]) == set(KINDS)
    assert set(searched["state"]) == {"complete"}
    sizes = searched.groupby("param.model.kind")["num_params"].nunique()
    assert (sizes == 1).all()
    assert found.record.test_looks == 1


@pytest.mark.parametrize(
    ("model", "space"),
    [
        ({"kind": "local", "depth": 1, "width": 4}, {"model.tied": [False, True]}),
        ({"kind": "resmlp", "depth": 2, "width": 8}, {"model.skip": [True, False]}),
        (
            {"kind": "resmlp", "depth": 2, "width": 8, "scalars": True},
            {"init.kind": ["he", "fixup"]},
        ),
        ({"kind": "capsule", "depth": 1, "width": 8}, {"model.routing_iterations": [1, 3]}),
    ],
)
def test_the_keys_of_a_kind_are_dimensions(run, model, space):
    found = run(model=model, space=space, rounds=[{"sampler": "grid", "epochs": 2}])
    (path,) = space
    searched = found.trials().query("role == 'search'")
    assert set(searched[f"param.{path}"]) == set(space[path])
    losses = searched["val_loss"]
    assert losses.notna().all()
    assert losses.nunique() == len(losses)


def test_points_that_cannot_work_are_refused_before_anything_starts(run, tmp_path):
    with pytest.raises((SpaceError, ConfigError), match=r"`init\.kind: fixup` sets the ends"):
        run(model={"kind": "mlp", "depth": 1, "width": 8}, space={"init.kind": ["he", "fixup"]})
    with pytest.raises((SpaceError, ConfigError), match=r"lower `model\.depth`"):
        run(model={"kind": "local", "width": 2}, space={"model.depth": [1, 9]})
    assert not (tmp_path / "ledger.db").exists()
