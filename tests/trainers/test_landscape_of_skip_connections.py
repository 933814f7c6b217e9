"""Li et al. (2018), lecture, p. 35: what skip connections do to the loss around a deep net."""

import pytest

from trainers.config import TrialConfig
from trainers.data import load
from trainers.landscape import loss_surface, scores
from trainers.lanes.evaluation import to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial

NUM_DIRECTIONS = 5


@pytest.mark.long
def test_without_skip_connections_a_deep_net_stands_on_rougher_ground(capsys):
    """All nets are trained to a low loss first, as an untrained one stands on a plateau.

    No deeper than 18 layers: with 42, nets without skips never leave the loss of guessing.
    """
    found = {}
    for depth, skip in ((2, True), (2, False), (8, True), (8, False)):
        config = TrialConfig.from_mapping(
            {
                "data.num_train": 600, "model.kind": "resmlp", "model.depth": depth,
                "model.width": 32, "model.skip": skip, "model.batch_norm": "before",
                "optimizer.kind": "momentum", "optimizer.lr": 0.05, "schedule.kind": "cosine",
                "optimizer.weight_decay": 5e-4, "train.epochs": 60,
            }
        )  # fmt: skip
        dataset = load(config.data)
        trial = Trial(trial_id=0, config=config, seed=0)
        plan = fixed_plan([trial], dataset, tier="lane_by_lane", fuse_width=1)
        (state,) = train_pack([trial], None, 60, dataset=dataset, plan=plan).states
        assert state.metrics["train_loss"] < 0.3
        module = to_module(state, trial, dataset)
        found[depth, skip] = [
            scores(loss_surface(module, config, dataset, seed=seed, num_rows=300))
            for seed in range(NUM_DIRECTIONS)
        ]

    def mean(depth: int, skip: bool, name: str) -> float:
        return sum(getattr(score, name) for score in found[depth, skip]) / NUM_DIRECTIONS

    with capsys.disabled():
        for depth, skip in found:
            names = ("negative_curvature", "monotone_rays", "low_area")
            shown = ", ".join(f"{name} {mean(depth, skip, name):.3f}" for name in names)
            print(f"{2 * depth + 2} layers, skip {skip}: {shown}")
    assert mean(8, False, "negative_curvature") > 3 * mean(8, True, "negative_curvature")
    assert mean(8, False, "low_area") < 0.5 * mean(8, True, "low_area")
    gap = abs(mean(2, False, "negative_curvature") - mean(2, True, "negative_curvature"))
    assert gap < 0.05
