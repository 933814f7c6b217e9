"""Trials from elsewhere, as samplers are told of them; and what a machine offers."""

from __future__ import annotations

import pandas as pd
from small_search import small_spec

from service.search.doctor import findings
from service.search.outside import outside_evidence
from service.search.samplers import ask


def spec_from(folder, frame):
    path = folder / "old.csv"
    frame.to_csv(path, index=False)
    return small_spec(start_from={"trials": str(path)})


def rows(num, **more):
    return pd.DataFrame(
        {
            "optimizer.lr": [10 ** (-3 + i / num) for i in range(num)],
            "model.dropout": [0.1] * num,
            "val_error": [i / num for i in range(num)],
            **more,
        }
    )


def test_rows_are_told_before_the_searchs_own_trials_with_their_length(tmp_path):
    told, notes = outside_evidence(spec_from(tmp_path, rows(12, epochs=[4] * 12)))
    assert [row.number for row in told] == list(range(-12, 0))
    assert {row.horizon_epochs for row in told} == {4}
    assert [row.values[0] for row in told] == [i / 12 for i in range(12)]
    assert notes == []


def test_a_sampler_learns_from_rows_of_its_own_length_only(tmp_path):
    spec = spec_from(tmp_path, rows(40, epochs=[4] * 40))
    told, _ = outside_evidence(spec)

    def asked(epochs):
        return ask("tpe", spec.space, told, 4, 0, spec.objective_list, horizon_epochs=epochs)

    assert asked(4) != asked(9)
    assert asked(9) == ask("tpe", spec.space, [], 4, 0, spec.objective_list, horizon_epochs=9)


def test_rows_that_do_not_say_how_long_they_were_trained_are_left_out_and_named(tmp_path):
    told, notes = outside_evidence(spec_from(tmp_path, rows(5)))
    assert told == []
    assert "5 trials do not say how many epochs" in notes[0]


def test_without_evidence_there_is_nothing_to_tell():
    assert outside_evidence(small_spec()) == ([], [])


def test_the_doctor_says_what_follows_from_what_it_finds():
    found = {row["what"]: row for row in findings()}
    assert int(found["cores"]["found"]) >= 1
    assert "RAPL" in found["processor energy"]["found"]
    assert found["torch"]["found"]
    assert "device: auto" in found["GPUs"]["follows"] or "processor" in found["GPUs"]["follows"]
