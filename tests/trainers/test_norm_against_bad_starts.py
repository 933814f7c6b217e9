"""Batch normalisation makes training forgive its start (lecture, p. 51 and 54)."""

from trainers.config import TrialConfig
from trainers.data import load
from trainers.diagnostics import layer_signals
from trainers.lanes.evaluation import to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial

SCALES = (0.1, 1.0, 10.0)


def test_with_it_weights_ten_times_too_small_or_large_still_train_and_fewer_units_die():
    """He weights times 0.1, 1 and 10 as lanes of one pack, once with and once without."""
    errors, dead = {}, {}
    for place in ("before", "none"):
        config = TrialConfig.from_mapping(
            {
                "data": {"name": "digits", "num_train": 600},
                "model": {"kind": "mlp", "depth": 4, "width": 48, "batch_norm": place},
                "optimizer": {"kind": "sgd", "lr": 0.1},
                "train": {"batch_size": 50, "epochs": 12},
            }
        )
        dataset = load(config.data)
        trials = [
            Trial(trial_id=i, config=config.with_values({"init.scale": scale}), seed=0)
            for i, scale in enumerate(SCALES)
        ]
        plan = fixed_plan(trials, dataset, tier="kernels", fuse_width=3)
        result = train_pack(trials, None, 12, dataset=dataset, plan=plan)
        errors[place] = [
            1.0 if row.status == "diverged" else row.metrics["val_error"] for row in result.rows
        ]
        states = zip(result.states, trials, strict=True)
        signals = [layer_signals(to_module(s, t, dataset), dataset.x_val) for s, t in states]
        dead[place] = [sum(s.dead_share for s in layers) / len(layers) for layers in signals]
    assert max(errors["before"]) < 0.35
    assert errors["none"][1] < 0.2
    assert min(errors["none"][0], errors["none"][2]) > 0.5
    assert max(dead["before"]) < max(dead["none"])
