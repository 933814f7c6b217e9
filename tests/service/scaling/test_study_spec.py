"""A study's spec: the documented example, defaults, round trips, and what is refused and how."""

from __future__ import annotations

import pytest
from small_study import SMALL

from service.scaling.groups import make_groups
from service.scaling.spec import StudySpec, run_study
from trainers.errors import ConfigError

EXAMPLE = """\
kind: study
name: bytes-transformer
data: {name: stdlib-bytes}
model: {kind: transformer, context: 256}
train: {batch_size: 64, loss: cross_entropy}
schedule: {kind: wsd, warmup_fraction: 0.02, cooldown_fraction: 0.2, fork_budgets: true}
sizes: {model.width: [32, 48, 64, 96, 128, 192]}
derive: {model.depth: "max(2, model.width // 32)", model.heads: "model.width // 16"}
budgets_flops: [1e12, 3e12, 1e13, 3e13, 1e14]
tune: {per: size, trials: 8, space: {optimizer.lr: {log_uniform: [1e-4, 3e-2]}}}
compare: {optimizer.kind: [adamw, momentum]}
seeds: {default: 1, near_minimum: 3}
objectives: {val_bits_per_byte: minimize}
fit: {laws: [chinchilla, isoflop, power_constant, last_value], count_params: non_embedding, confidence: 0.9}
verify: {flops: 1e15}
budget: {hours: 24, kwh: 2}
resources: {cpus_per_worker: 1, max_workers: 2}
"""  # noqa: E501


def test_the_documented_example_means_what_it_says() -> None:
    spec = StudySpec.from_text(EXAMPLE)
    assert spec.fork_budgets
    assert spec.data.context == 256
    assert spec.model.language_model
    assert [values["model.width"] for values in spec.size_values] == [32, 48, 64, 96, 128, 192]
    config = spec.configure(
        {**spec.size_values[3], **spec.recipe_values[1], "optimizer.lr": 0.01},
        rows_per_epoch=640,
        epochs=7,
    )
    assert (config.model.width, config.model.depth, config.model.heads) == (96, 3, 6)
    assert (config.optimizer.kind, config.optimizer.lr) == ("momentum", 0.01)
    assert (config.train.rows_per_epoch, config.train.epochs) == (640, 7)
    assert spec.metric == "val_bits_per_byte"
    assert spec.as_search.budget.seconds == 24 * 3600


def test_it_reads_back_equal_from_mapping_and_from_yaml() -> None:
    spec = StudySpec.from_text(EXAMPLE)
    assert StudySpec.from_mapping(spec.to_mapping()) == spec
    assert StudySpec.from_text(spec.to_yaml()) == spec


def test_overrides_reach_into_it(tmp_path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(EXAMPLE)
    spec = StudySpec.from_yaml(path, ["tune.trials=4", "budgets_flops=[1e12, 2e12]"])
    assert spec.tune is not None
    assert spec.tune.trials == 4
    assert spec.budgets == (1e12, 2e12)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("sizes:", "sizs:", "unknown key `sizs`; did you mean `sizes`"),
        ("budgets_flops:", "budget_flops:", "unknown key `budget_flops`; did you mean `budgets_f"),
        ("near_minimum: 3", "near_min: 3", "line 12: unknown key `seeds.near_min`; did you mean"),
        ("near_minimum: 3", "near_minimum: 0", "line 12: `seeds.near_minimum`"),
        ("default: 1", "default: 5", "must be >= `seeds.default`, but got 3 and 5"),
        ("per: size", "per: sizes", "'sizes'; did you mean `size`"),
        ("trials: 8", "trials: 1", "`tune.trials`.*got 1"),
        ("optimizer.lr", "optimizer.lrr", "did you mean `optimizer.lr`"),
        ("model.width: [", "model.wdth: [", "line 7: .*`sizes.model.wdth`; did you mean"),
        ("[32, 48, 64, 96, 128, 192]", "[32]", "needs at least 2 values, but got .32."),
        ("[32, 48, 64, 96, 128, 192]", "[32, 32]", "lists a size twice"),
        ("[32, 48, 64, 96, 128, 192]", "[8, 32]", "`model.heads`"),
        ("[adamw, momentum]", "[adamw]", "`compare.optimizer.kind` needs at least 2 values"),
        ("[adamw, momentum]", "[adamw, adamw]", "lists a value twice"),
        ("[1e12, 3e12, 1e13, 3e13, 1e14]", "[]", "`budgets_flops`"),
        ("[1e12, 3e12, 1e13, 3e13, 1e14]", "[0, 1e12]", "`budgets_flops.0`.*got 0"),
        ("verify: {flops: 1e15}", "verify: {flops: 1e14}", "larger than every budget"),
        ("chinchilla,", "chinchila,", "unknown law 'chinchila'; did you mean `chinchilla`"),
        ("confidence: 0.9", "confidence: 90", "`fit.confidence`.*got 90"),
        ("val_bits_per_byte", "val_bits_per_bite", "did you mean `val_bits_per_byte`"),
        ("minimize", "maximize", "must be minimize, because laws are of a loss"),
        ("kind: wsd", "kind: cosine", "only `schedule.kind: wsd` has, but got 'cosine'"),
        ("cooldown_fraction: 0.2", "cooldown_fraction: 0.99", "their sum must be <= 1"),
        ("batch_size: 64", "batch_size: 64, epochs: 3", "`budgets_flops` decide how long"),
        ("batch_size: 64", "batch_size: 64, rows_per_epoch: 64", "follows from `budgets_flops`"),
        ("loss: cross_entropy", "convergence_change: 1e-4", "would end a point before its budget"),
        ("optimizer.kind:", "model.width:", "one origin, but `sizes.model.width` and `compare"),
        ("trials: 8,", "trials: 8, budgets: 2, use: best,", "forks share one run's schedule"),
        ("trials: 8,", "trials: 8, use: smoth,", "`tune.use`.*did you mean `smooth`"),
        (
            "{log_uniform: [1e-4, 3e-2]}}",
            "[1e-4, 1e-3]}, use: smooth",
            "`tune.use: smooth` needs a single path with `log_uniform`.*; use best, or tune one",
        ),
        ("kwh: 2", "kwh: 0", "`budget.kwh`"),
        ("kwh: 2", "trials: 3", "unknown key `budget.trials`"),
        (
            "kind: study",
            "kind: search",
            "`kind` must be study here, but got 'search'; `isoflop search`",
        ),
    ],
)
def test_what_breaks_a_rule_is_refused_with_the_next_step(old: str, new: str, words: str) -> None:
    assert EXAMPLE.count(old) >= 1
    with pytest.raises(ConfigError, match=words):
        StudySpec.from_text(EXAMPLE.replace(old, new, 1))


def test_sizes_of_several_paths_are_read_side_by_side() -> None:
    sizes = {"model.width": [4, 8], "model.depth": [1, 3]}
    spec = StudySpec.from_mapping({**SMALL, "model": {"kind": "mlp"}, "sizes": sizes})
    assert spec.size_values == [
        {"model.width": 4, "model.depth": 1},
        {"model.width": 8, "model.depth": 3},
    ]
    with pytest.raises(ConfigError, match=r"equally long, but got model.width: 2, model.depth: 3"):
        StudySpec.from_mapping(
            {**SMALL, "model": {"kind": "mlp"}, "sizes": {**sizes, "model.depth": [1, 2, 3]}}
        )


def test_a_group_for_every_recipe_size_and_amount_of_data() -> None:
    spec = StudySpec.from_mapping(
        {**SMALL, "compare": {"model.activation": ["relu", "tanh"]}, "data_sizes": [400, 800]}
    )
    groups = make_groups(spec)
    assert len({group.key for group in groups}) == len(groups) == 2 * 2 * 2
    assert {group.num_train for group in groups} == {400, 800}
    assert [group.params_all for group in groups if group.values["model.width"] == 4] == [310] * 4


def test_an_epoch_holds_whole_batches_of_every_size_that_is_tuned() -> None:
    tune = {"space": {"train.batch_size": [8, 32]}}
    spec = StudySpec.from_mapping({**SMALL, "train": {"precision": "float64"}, "tune": tune})
    for group in make_groups(spec):
        assert group.lengths.rows_per_epoch % 32 == 0


def test_limits_say_what_they_leave_out() -> None:
    spec = StudySpec.from_mapping({**SMALL, "limits": {"min_updates": 30, "max_passes": 1}})
    small, large = make_groups(spec)
    assert small.budgets == ()
    assert small.left_out[5e5].startswith("24.7 updates, and `limits.min_updates` is 30")
    assert small.left_out[2e6].startswith("1.47 passes over 1,079 rows")
    assert large.budgets == (2e6,)


def test_a_study_without_any_point_is_refused_before_it_begins(tmp_path) -> None:
    spec = {**SMALL, "limits": {"min_updates": 10_000}}
    with pytest.raises(ConfigError, match=r"leave all of them out, .* 4 at 500000"):
        run_study(spec, ledger=tmp_path / "ledger.db")
    assert not (tmp_path / "ledger.db").exists()
    with pytest.raises(ConfigError, match="must be <= the training rows"):
        run_study({**SMALL, "train": {"batch_size": 4096}}, ledger=tmp_path / "ledger.db")
    with pytest.raises(ConfigError, match="does not exist for classification"):
        run_study({**SMALL, "objectives": {"val_rmse": "minimize"}}, ledger=tmp_path / "l.db")
