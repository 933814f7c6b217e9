"""Li et al. (2018), lecture, p. 35: what skip connections do to the loss around a deep net."""

import pytest

from trainers.config import TrialConfig
from trainers.data import load
from trainers.landscape import loss_surface, scores
from trainers.lanes.evaluation import to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial


@pytest.mark.long
def test_without_skip_connections_a_deep_net_stands_on_rougher_ground(capsys):
    """Both nets of 42 layers are trained below the same loss first: an untrained one is flat."""
    found = {}
    for skip in (True, False):
        config = TrialConfig.from_mapping(
            {
                "data.num_train": 600, "model.kind": "resmlp", "model.depth": 20,
                "model.width": 32, "model.skip": skip, "model.batch_norm": "before",
                "train.epochs": 40, "optimizer.lr": 2e-3,
            }
        )  # fmt: skip
        dataset = load(config.data)
        trial = Trial(trial_id=0, config=config, seed=0)
        plan = fixed_plan([trial], dataset, tier="lane_by_lane", fuse_width=1)
        (state,) = train_pack([trial], None, 40, dataset=dataset, plan=plan).states
        assert state.metrics["train_loss"] < 0.3
        module = to_module(state, trial, dataset)
        found[skip] = [
            scores(loss_surface(module, config, dataset, seed=seed, num_rows=300))
            for seed in range(5)
        ]
    with capsys.disabled():
        for skip, all_scores in found.items():
            print(f"skip {skip}:", *all_scores, sep="\n  ")

    def mean(skip: bool, name: str) -> float:
        return sum(getattr(score, name) for score in found[skip]) / 5

    assert mean(False, "negative_curvature") > mean(True, "negative_curvature")
    assert mean(False, "low_area") < mean(True, "low_area")
