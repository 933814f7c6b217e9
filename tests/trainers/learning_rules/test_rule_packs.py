"""Every rule in packs: the same numbers alone, together, reordered and resumed; and it learns."""

from pathlib import Path

import numpy as np
import pytest
import torch

from trainers.config import TrialConfig
from trainers.data import Dataset, load
from trainers.errors import ConfigError
from trainers.lanes.checkpoint import save_pack
from trainers.lanes.evaluation import evaluate, to_module
from trainers.lanes.pack import train_pack
from trainers.lanes.plan import fixed_plan, make_plan
from trainers.lanes.signature import signature
from trainers.learning_rules.making import RULES
from trainers.trial import EpochReport, EpochRow, Trial

KINDS = sorted(set(RULES) - {"backprop"})
VARIANTS = [(kind, {}) for kind in KINDS] + [
    ("dtp", {"mode": "alternating"}),
    ("ao_sdtp", {"mode": "alternating"}),
    ("predictive_coding", {"prediction": "fixed", "num_sweeps": 3}),
]
Curves = dict[tuple[int, int], EpochRow]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(TrialConfig.from_mapping({"data.num_train": 150}).data)


def config(kind: str, **more: object) -> TrialConfig:
    is_cma = kind == "cma_es"
    return TrialConfig.from_mapping(
        {
            "data.num_train": 150,
            "model": {
                "width": 2 if is_cma else 8,
                "depth": 1 if is_cma else 2,
                "activation": "tanh",
            },
            "train": {"epochs": 4, "precision": "float64", "batch_size": 64},
            "optimizer": {"kind": "sgd", "lr": 1.0} if is_cma else {"kind": "adam", "lr": 2e-3},
            "learning_rule": {"kind": kind, "num_directions": 3, "num_auxiliary": 6},
            **more,
        }
    )


def varied(kind: str, shared: dict[str, object], count: int = 4) -> list[Trial]:
    """Trials of one signature that differ in every constant that may differ."""
    trials = []
    for i in range(count):
        values: dict[str, object] = {
            "learning_rule.feedback_scale": 1 + 0.2 * i,
            "learning_rule.target_step": 0.1 * (i + 1),
            "learning_rule.noise_std": 0.05 * (i + 1),
            "learning_rule.inverse_lr": 1e-3 * (i + 1),
            "learning_rule.inference_rate": 0.05 * (i + 1),
            "learning_rule.hidden_rate": 0.5 + 0.1 * i,
            "learning_rule.anti_hebbian": 0.1 * i,
            "regularisation.label_smoothing": 0.05 * (i % 2),
            "train.epochs": 4 + i % 2,
        }
        if kind != "cma_es":
            values["optimizer.lr"] = 1e-3 * (i + 1)
        own = config(kind).with_values(values | shared)
        trials.append(Trial(trial_id=i, config=own, seed=50 + i))
    return trials


def run(trials, dataset, *, fuse_width, stop_epoch=9, start=None):
    rows: Curves = {}

    def keep(report: EpochReport) -> None:
        rows.update({(row.trial_id, row.epoch): row for row in report.rows})

    plan = fixed_plan(trials, dataset, tier="kernels", fuse_width=fuse_width)
    result = train_pack(trials, start, stop_epoch, keep, dataset=dataset, plan=plan)
    return rows, list(result.states)


def assert_same(rows: Curves, reference: Curves) -> None:
    assert rows.keys() == reference.keys()
    for key, row in rows.items():
        assert row.metrics.keys() == reference[key].metrics.keys()
        for name, value in row.metrics.items():
            expected = reference[key].metrics[name]
            np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize(("kind", "settings"), VARIANTS)
def test_alone_reordered_and_resumed_a_trial_gets_the_same_numbers(
    kind: str, settings: dict[str, object], digits: Dataset, tmp_path: Path
) -> None:
    shared = {f"learning_rule.{name}": value for name, value in settings.items()}
    trials = varied(kind, shared)
    reference, final = run(trials, digits, fuse_width=4)
    alone: Curves = {}
    for trial in trials:
        alone |= run([trial], digits, fuse_width=1)[0]
    assert_same(alone, reference)
    rows, early = run(trials, digits, fuse_width=3, stop_epoch=1)
    refs = save_pack(tmp_path / "early.pt", early)
    order = [2, 0, 3, 1]
    more, states = run(
        [trials[i] for i in order], digits, fuse_width=2, start=[refs[i] for i in order]
    )
    assert_same(rows | more, reference)
    for state, i in zip(states, order, strict=True):
        for name, tensor in state.tensors.items():
            torch.testing.assert_close(tensor, final[i].tensors[name], rtol=1e-9, atol=1e-9)


def test_the_rule_written_out_trains_as_the_kernels_do(digits: Dataset) -> None:
    written_out = varied("lecture_backprop", {})
    kernels = varied("backprop", {})
    rows, _ = run(written_out, digits, fuse_width=4)
    expected, _ = run(kernels, digits, fuse_width=4)
    for key, row in rows.items():
        for cosine in ("cos_backprop", "cos_backprop_1", "cos_backprop_2"):
            assert row.metrics[cosine] == pytest.approx(1, abs=1e-12)
        for name, value in expected[key].metrics.items():
            np.testing.assert_allclose(row.metrics[name], value, rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("kind", ["dtp", "sdtp"])
def test_alternating_epochs_leave_the_weights_alone_every_other_time(
    kind: str, digits: Dataset
) -> None:
    trials = varied(kind, {"learning_rule.mode": "alternating", "train.epochs": 6}, count=2)
    states, weights, inverses = None, [], []
    for epoch in range(1, 5):
        _, states = run(trials, digits, fuse_width=2, stop_epoch=epoch, start=states)
        weights.append(states[0].tensors["params"])
        inverses.append(states[0].tensors["buffer.rule.V1"])
    assert torch.equal(weights[2], weights[1])
    assert not torch.equal(weights[1], weights[0])
    assert not torch.equal(weights[3], weights[2])
    assert torch.equal(inverses[1], inverses[0])
    assert not torch.equal(inverses[2], inverses[1])


def test_in_resting_epochs_the_optimizer_counts_no_update(digits: Dataset) -> None:
    """Adam's very first update has length lr in every entry, whatever its gradient's size."""
    one_step_an_epoch = {"learning_rule.mode": "alternating", "train.batch_size": 150}
    trials = varied("dtp", one_step_an_epoch, count=2)
    _, rested = run(trials, digits, fuse_width=2, stop_epoch=1)
    _, states = run(trials, digits, fuse_width=2, stop_epoch=2, start=rested)
    for trial, before, after in zip(trials, rested, states, strict=True):
        assert not before.tensors["slot.mean"].any()
        moved = (after.tensors["params"] - before.tensors["params"]).abs()
        assert float(moved[moved > 0].median()) == pytest.approx(
            trial.config.optimizer.lr, rel=1e-3
        )


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_strategy_beyond_the_librarys_range_diverges_alone(
    precision: str, digits: Dataset
) -> None:
    """The package refuses means of 1e32 and more; tanh keeps the loss finite far beyond."""
    trials = varied("cma_es", {"train.precision": precision}, count=2)
    _, states = run(trials, digits, fuse_width=2, stop_epoch=1)
    rows, expected = run(trials[1:], digits, fuse_width=1, start=states[1:])
    # Hidden units of the first weights are +-1 then, and the readout's are left alone.
    states[0].tensors["params"][:64].fill_(1e33)
    found, after = run(trials, digits, fuse_width=2, start=states)
    assert found[0, 2].status == "diverged"
    assert torch.equal(after[1].tensors["params"], expected[0].tensors["params"])
    assert_same({key: row for key, row in found.items() if key[0] == 1}, rows)


def test_numbers_are_learned_too() -> None:
    settings = {"data.name": "diabetes", "data.num_train": None, "train.epochs": 15}
    dataset = load(config("backprop").with_values(settings).data)
    for kind in ("feedback_alignment", "sdtp", "predictive_coding", "evolution"):
        trial = Trial(trial_id=0, config=config(kind).with_values(settings), seed=1)
        rows, _ = run([trial], dataset, fuse_width=1, stop_epoch=15)
        assert rows[0, 15].metrics["train_loss"] < 0.9 * rows[0, 1].metrics["train_loss"]
        assert rows[0, 15].metrics["val_r2"] < 1


def test_rules_of_different_kinds_are_of_different_signatures(digits: Dataset) -> None:
    signatures = {signature(config(kind), digits) for kind in RULES}
    assert len(signatures) == len(RULES)


def test_a_trained_rule_is_an_ordinary_module(digits: Dataset) -> None:
    trials = varied("sdtp", {"regularisation.early_stopping.restore_best": True}, count=2)
    _, states = run(trials, digits, fuse_width=2)
    found = evaluate(states, trials, digits, "val")
    for trial, state, evaluation in zip(trials, states, found, strict=True):
        module = to_module(state, trial, digits)
        with torch.no_grad():
            outputs = module(digits.x_val.double())
        error = (outputs.argmax(1) != digits.y_val).double().mean().item()
        assert evaluation.metrics["val_error"] == pytest.approx(error)
        assert state.metrics["best_val_loss"] == pytest.approx(evaluation.metrics["val_loss"])


def test_a_plan_says_that_the_rule_is_written_out(digits: Dataset) -> None:
    plan = make_plan(varied("feedback_alignment", {}), digits, "cpu")
    assert plan.tier == "kernels"
    assert "feedback_alignment" in plan.reasons["tier"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model.kind": "cnn"}, "use `model.kind: local`"),
        ({"model.depth": 0}, "depth of at least 1"),
        ({"model.dropout": 0.5}, "`model.dropout` 0.5"),
        ({"model.batch_norm": "before"}, "normalisation"),
        ({"train.precision": "bf16"}, "use float32"),
        ({"learning_rule.kind": "cma_es"}, "`optimizer.lr: 1`"),
        ({"learning_rule.kind": "competitive", "learning_rule.competition_rank": 9}, "9 of 8"),
        ({"learning_rule.kind": "hebb"}, "learning_rule.kind"),
    ],
)
def test_what_a_rule_cannot_use_is_refused_with_what_would_work(
    values: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        config("feedback_alignment").with_values(values)


def test_cma_es_is_refused_from_a_thousand_parameters(digits: Dataset) -> None:
    large = config("cma_es").with_values({"model.width": 14})  # 65 * 14 + 15 * 10 = 1060
    with pytest.raises(ConfigError, match=r"fewer than 1000 parameters.*1060"):
        train_pack([Trial(trial_id=0, config=large, seed=0)], None, 1, dataset=digits)
