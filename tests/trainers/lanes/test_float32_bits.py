"""In float32 an MLP's lane is the same to the last bit, whatever the group: any shape, any rule."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.config import TrialConfig
from trainers.data import load
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan
from trainers.trial import Trial

NUM_TRIALS = 5


def params_by_trial(trials: list[Trial], fuse_width: int) -> dict[int, tuple[torch.Tensor, str]]:
    dataset = load(trials[0].config.data)
    plan = fixed_plan(trials, dataset, tier="kernels", fuse_width=fuse_width)
    result = train_pack(trials, None, 2, dataset=dataset, plan=plan)
    return {s.trial_id: (s.tensors["params"], str(s.metrics)) for s in result.states}


@settings(max_examples=25, deadline=None)
@given(
    shared=st.fixed_dictionaries(
        {
            "data.name": st.sampled_from(["diabetes", "breast_cancer", "wine"]),
            "model.width": st.sampled_from([1, 7, 13, 33, 100, 130]),
            "model.depth": st.integers(0, 3),
            "model.activation": st.sampled_from(["sigmoid", "tanh", "relu", "elu", "identity"]),
            "model.batch_norm": st.sampled_from(["none", "before", "after"]),
            "optimizer.kind": st.sampled_from(
                ["sgd", "momentum", "rmsprop", "adagrad", "adam", "adamw"]
            ),
            "train.batch_size": st.sampled_from([16, 31, 50, 64]),
            "train.loss": st.sampled_from(["auto", "half_mse"]),
        }
    )
)
def test_bits_do_not_depend_on_the_group(shared: dict[str, Any]) -> None:
    trials = []
    for i in range(NUM_TRIALS):
        own = {
            "optimizer.lr": 10.0 ** -(2 + i / 2),
            "optimizer.weight_decay": 1e-3 * (i % 2),
            "model.dropout": 0.3 * (i % 3),
            "regularisation.l2": 1e-3 * (i % 2),
            "regularisation.l1": 1e-4 * (i % 3),
            "regularisation.l1_form": ["proximal", "subgradient"][i % 2],
            "train.grad_clip_norm": [None, 1.0][i % 2],
            "train.epochs": 2,
        }
        config = TrialConfig.from_mapping({**shared, **own})
        trials.append(Trial(trial_id=i, config=config, seed=i))
    together = params_by_trial(trials, NUM_TRIALS)
    for others in (params_by_trial(trials, 1), params_by_trial(trials[::-1], 3)):
        for trial_id, (params, metrics) in together.items():
            assert torch.equal(params.nan_to_num(), others[trial_id][0].nan_to_num())
            assert metrics == others[trial_id][1]
