import re

import pytest

from service.search.spec import SearchSpec
from trainers.errors import ConfigError, SpaceError

GOOD = """\
kind: search
model: {depth: 2}
space:
  optimizer.kind: [adam, momentum]
  optimizer.lr: {log_uniform: [1e-5, 1e-1]}
  optimizer.momentum: {uniform: [0.8, 0.99], when: {optimizer.kind: momentum}}
derive: {train.batch_size: "32 * model.depth"}
objectives: {val_error: minimize}
budget: {trials: 48, kwh: 1}
rounds:
  - {sampler: random, trials: 32, epochs: 3}
  - {sampler: tpe, trials: 16, epochs: 12, halving: {eta: 3, first_epoch: 4}, refine: true}
"""


def message(text):
    with pytest.raises(ConfigError) as caught:
        SearchSpec.from_text(text)
    return str(caught.value)


def test_the_good_one_is_good():
    SearchSpec.from_text(GOOD)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("objectives:", "objectivs:", "line 8: unknown key `objectivs`; did you mean `objectives`"),
        ("trials: 48", "trails: 48", "line 9: unknown key `budget.trails`; did you mean `trials`"),
        ("eta: 3", "etta: 3", "line 12: unknown key `rounds.1.halving.etta`; did you mean `eta`"),
        ("depth: 2", "dept: 2", "line 2: unknown key `model.dept`; did you mean `depth`"),
        ("optimizer.lr:", "optimizer.lrr:", "line 5: unknown path .*did you mean `optimizer.lr`"),
        ("train.batch_size:", "train.batch:", "unknown path `derive.train.batch`"),
        (
            "32 * model.depth",
            "32 * model.dpth",
            "batch_size` reads an unknown path `model.dpth`; did",
        ),
        ("log_uniform", "loguniform", "line 5: .*did you mean `log_uniform`"),
        (
            "kind: search",
            "kind: study",
            "^spec, line 1: `kind` must be search .*`isoflop scale run`",
        ),
        ("kind: search", "finalists: 3", "line 1: `finalists` takes a mapping {key: value}, but g"),
        ("kind: search", "name: 5", "line 1: `name` takes text, but got 5"),
        ("val_error", "val_eror", "line 8: .*did you mean `val_error`"),
        ("minimize", "minimise", "minimize or maximize, but got 'minimise'; did you mean"),
        ("sampler: tpe", "sampler: tpee", "line 12: .*'tpee'; did you mean `tpe`"),
        ("[1e-5, 1e-1]", "[1e-1, 1e-5]", "line 5: .*is inverted; write"),
        ("[1e-5, 1e-1]", "[1e-1, 1e-1]", "line 5: .*is empty"),
        ("[1e-5, 1e-1]", "[0, 1e-1]", "line 5: .*low > 0, but got"),
        (
            "when: {optimizer.kind",
            "when: {optimizer.kid",
            "line 6: .*`optimizer.kid`, which",
        ),
        ("kind: momentum}", "kind: adamw}", "lines 4 and 6: .*never is"),
        ("trials: 48", "trials: 0", "line 9: `budget.trials`: .*got 0; give a larger"),
        ("kwh: 1", "kwh: 0", "line 9: `budget.kwh`: .*greater than 0, but got 0"),
        ("kwh: 1", "kwh: -1", "line 9: `budget.kwh`: .*but got -1"),
        ("kwh: 1", "kwh: lots", "line 9: `budget.kwh`: .*but got 'lots'"),
        ("first_epoch: 4", "first_epoch: 12", r"`halving\.first_epoch` must be < .*12 and 12"),
        ("epochs: 3}", "epochs: 3, refine: true}", "`rounds.0.refine` needs a round before it"),
        ("sampler: random", "sampler: grid", "`space.optimizer.lr`: a grid over a continuous"),
        ("optimizer.lr: {", "train.epochs: {", "`space.train.epochs` cannot be searched"),
        ("lr: {log_uniform: [1e-5, 1e-1]}", "beta1: {uniform: [0, 1]}", "line 5: .*reaches 1.0"),
        ("[adam, momentum]", "[adam, momentum, adan]", "line 4: .*reaches 'adan', but"),
        ("32 * model", "32 ** model", "line 7: .*holds '32 \\*\\* model.depth'; use"),
        ("32 * model.depth", "model.depth / 0", "line 7: .*division by zero"),
        ("32 * model.depth", "0 * model.depth", "`train.batch_size`.*but got 0"),
        ("budget: {", "budget: {target: .nan, ", "`budget.target`"),
        ("objectives: {val_error: minimize}", "objectives: {}", "`objectives` needs a metric"),
        ("objectives:", "constraints: {params: 3}\nobjectives:", "line 8: .*write e.g."),
        ("kind: search", "name: a b", "line 1: `name`"),
        ("kind: search", 'project: "a\\0b"', "line 1: `project` is one line .*of 3; shorten"),
        ("kind: search", f"project: {'p' * 201}", "line 1: `project` is one line .*of 201"),
        ("kind: search", "seed: -1", "line 1: `seed`"),
        ("kind: search", "mode: fast", "line 1: `mode`.*'fast'"),
        ("kind: search", "resources: {gpus_per_worker: 2}", "`resources.gpus_per_worker`.*got 2"),
        ("kind: search", "data: {val_fraction: 0.9}", "must be < 1, but got 0.9"),
        (
            "kind: search",
            "start_from: {baseline: {lr: 1}}",
            "`start_from.baseline` holds",
        ),
        ("kind: search", "start_from: {baseline: {data.name: wine}}", "search's own `data`"),
        ("kind: search", "start_from: {baseline: none.yaml}", "No such file"),
        ("kind: search", "start_from: {configs: [{optimizer.lr: 3}]}", "point of the space"),
    ],
)
def test_bad_input_names_line_rule_value_and_next_step(old, new, words):
    assert old in GOOD
    found = message(GOOD.replace(old, new, 1))
    assert re.search(words, found), found


def test_a_path_both_fixed_and_searched_names_both_lines():
    found = message(GOOD + "optimizer: {lr: 1e-3}\n")
    assert found.startswith("spec, lines 5 and 13: ")
    assert "`optimizer.lr` and `space.optimizer.lr`" in found
    dotted = message("optimizer.lr: 1e-3\n" + GOOD)
    assert dotted.startswith("spec, lines 1 and 6: ")


def test_a_path_both_derived_and_fixed_names_both_lines():
    found = message(GOOD + "train: {batch_size: 8}\n")
    assert found.startswith("spec, lines 7 and 13: ")
    searched = GOOD.replace("model: {depth: 2}", "").replace("derive: {train.b", "derive: {model.b")
    assert "unknown path" in message(searched)


def test_python_errors_are_the_same_without_lines():
    with pytest.raises(SpaceError, match="either fixed or searched"):
        SearchSpec(optimizer={"lr": 1}, space={"optimizer.lr": [1, 2]})
    with pytest.raises(ConfigError, match="did you mean `space`"):
        SearchSpec(spaces={})


def test_several_faults_are_told_together():
    found = message(GOOD.replace("kwh: 1", "kwh: 0").replace("trials: 48", "trials: 0"))
    assert "budget.kwh" in found
    assert "budget.trials" in found


def test_losses_of_different_kinds_are_not_compared():
    with pytest.raises(SpaceError, match="different losses cannot be compared"):
        SearchSpec(
            space={"train.loss": ["cross_entropy", "half_mse"]}, objectives={"val_loss": "minimize"}
        )
    SearchSpec(space={"train.loss": ["cross_entropy", "half_mse"]})


def test_an_unknown_factory_key_is_the_factorys_own_business():
    spec = SearchSpec(model={"factory": "a.b:c"}, space={"model.arms": [1, 2]})
    assert spec.configure({"model.arms": 2}).value("model.arms") == 2
    with pytest.raises(ConfigError, match="unknown path"):
        SearchSpec(space={"model.arms": [1, 2]})


@pytest.mark.parametrize("text", ["derive: {train.batch_size: [1]}\n", "budget:\n"])
def test_empty_and_odd_sections_never_raise_anything_else(text):
    with pytest.raises(ConfigError, match="but got"):
        SearchSpec.from_text(text)


def test_a_choice_that_needs_another_setting_names_the_point():
    with pytest.raises(SpaceError, match=r"at the point .*'model\.kind': 'custom'"):
        SearchSpec(space={"model.kind": ["mlp", "custom"]})
