"""What a segment says, in which order, and what is durable by then."""

import itertools
from pathlib import Path

import pytest
from executor_fakes import (
    DIVERGES_AT_EPOCH_2,
    PLAN,
    RAISES,
    RUNS_OUT_OF_MEMORY,
    Told,
    fake_training,
    loss,
    order,
)

from service.messages import (
    Began,
    Border,
    Failed,
    Finished,
    Interrupted,
    Planned,
    Progress,
)
from service.search.segment import OUT_OF_MEMORY, explain_failure, run_segment


def run(an_order, should_stop=lambda: False, **options) -> Told:
    told = Told([])
    run_segment(an_order, told.messages.append, should_stop, training=fake_training(), **options)
    return told


def test_one_border_at_the_end_holds_every_epoch_and_a_checkpoint_per_lane(tmp_path):
    told = run(order(tmp_path, seeds=(1, 2, 3), stop_epoch=4))
    assert isinstance(told.messages[0], Began)
    assert isinstance(told.messages[-1], Finished)
    [border] = told.of(Border)
    assert [(row.trial_id, row.epoch) for row in border.rows] == [
        (trial, epoch) for epoch in (1, 2, 3, 4) for trial in (0, 1, 2)
    ]
    assert [ref.epoch for ref in border.checkpoints] == [4, 4, 4]
    assert all(Path(ref.path).exists() for ref in border.checkpoints)


def test_saves_every_so_many_epochs_and_never_the_same_epoch_twice(tmp_path):
    told = run(order(tmp_path, stop_epoch=4, save_every_epochs=2))
    borders = told.of(Border)
    assert [border.sequence for border in borders] == [0, 1]
    assert [border.checkpoints[0].epoch for border in borders] == [2, 4]
    assert len({border.checkpoints[0].path for border in borders}) == 2
    assert [row.epoch for row in told.rows()] == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_long_segment_saves_every_five_minutes(tmp_path):
    minutes = iter(range(1000))
    told = run(order(tmp_path, stop_epoch=12), clock=lambda: 60.0 * next(minutes))
    gaps = [border.checkpoints[0].epoch for border in told.of(Border)]
    assert len(gaps) >= 3
    assert gaps[-1] == 12


def test_usage_adds_up_to_what_the_rows_say(tmp_path):
    told = run(order(tmp_path, stop_epoch=5, save_every_epochs=2))
    usage = [span for border in told.of(Border) for span in border.usage]
    for trial in (0, 1):
        assert sum(span.trial_busy_s[trial] for span in usage) == pytest.approx(5 * 0.01)
    assert sum(span.padding_s for span in usage) == pytest.approx(5 * 0.001)
    assert all(a.ended_s <= b.started_s for a, b in itertools.pairwise(usage))


def test_measures_a_plan_only_where_none_is_given_and_says_so_first(tmp_path):
    assert not run(order(tmp_path)).of(Planned)
    told = run(order(tmp_path, plan=None))
    assert isinstance(told.messages[1], Planned)
    assert told.messages[1].plan == PLAN


def test_a_request_to_stop_finishes_the_epoch_saves_and_says_interrupted(tmp_path):
    asked = iter([False, True])
    told = run(order(tmp_path, stop_epoch=9), lambda: next(asked))
    assert isinstance(told.messages[-1], Interrupted)
    [border] = told.of(Border)
    assert border.checkpoints[0].epoch == 2


def test_a_request_to_stop_at_the_last_epoch_changes_nothing(tmp_path):
    asked = iter([False, False, True])
    assert isinstance(
        run(order(tmp_path, stop_epoch=3), lambda: next(asked)).messages[-1], Finished
    )


def test_goes_on_from_a_checkpoint_to_the_same_numbers(tmp_path):
    straight = run(order(tmp_path, segment_id="straight", stop_epoch=6)).rows()
    first = run(order(tmp_path, segment_id="first", stop_epoch=2))
    start = tuple(first.of(Border)[-1].checkpoints)
    second = run(order(tmp_path, segment_id="second", stop_epoch=6, start=start))
    assert first.rows() + second.rows() == straight
    assert straight[-1].metrics["val_loss"] == loss(2, 6)


def test_nothing_left_to_train_is_finished_without_a_border(tmp_path):
    first = run(order(tmp_path, stop_epoch=2))
    start = tuple(first.of(Border)[-1].checkpoints)
    told = run(order(tmp_path, stop_epoch=2, start=start))
    assert [type(message) for message in told.messages] == [Began, Finished]


def test_attempts_never_share_a_checkpoint_file(tmp_path):
    one, two = run(order(tmp_path)), run(order(tmp_path, attempt=2))
    assert one.of(Border)[0].checkpoints[0].path != two.of(Border)[0].checkpoints[0].path


def test_an_exception_becomes_a_failure_with_one_readable_line_and_then_the_traceback(tmp_path):
    told = run(order(tmp_path, seeds=(1, RAISES)))
    [failed] = told.of(Failed)
    first_line, _, details = failed.error.partition("\n")
    assert first_line == "ValueError: the model's width must be even, but got 3"
    assert "Traceback" in details
    assert failed.began
    assert not failed.worker_died


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("9 GB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
    ],
)
def test_out_of_memory_is_named_so(error):
    assert explain_failure(error).startswith(OUT_OF_MEMORY)


def test_a_full_disk_at_the_border_is_a_failure_not_a_crash(tmp_path):
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    [failed] = run(order(tmp_path)).of(Failed)
    assert "FileExistsError" in failed.error.splitlines()[0]


def test_out_of_memory_in_training(tmp_path):
    [failed] = run(order(tmp_path, seeds=(RUNS_OUT_OF_MEMORY,))).of(Failed)
    assert failed.error.startswith(OUT_OF_MEMORY)


def test_a_diverged_lane_does_not_keep_a_stopped_segment_from_being_finished(tmp_path):
    told = run(order(tmp_path, seeds=(DIVERGES_AT_EPOCH_2,), stop_epoch=2), lambda: True)
    assert isinstance(told.messages[-1], Interrupted)  # asked after epoch 1, before it diverged
    told = run(order(tmp_path, seeds=(DIVERGES_AT_EPOCH_2,), stop_epoch=9), _true_from(2))
    assert isinstance(told.messages[-1], Finished)


def _true_from(call):
    calls = iter(range(1, 100))
    return lambda: next(calls) >= call


def test_progress_shows_each_epoch_once(tmp_path):
    seconds = iter(range(1000))
    told = run(order(tmp_path, stop_epoch=3), clock=lambda: float(next(seconds)))
    shown = [row for message in told.of(Progress) for row in message.rows]
    assert shown == told.rows()


def test_reads_data_from_the_source_it_is_given(tmp_path):
    asked = []

    def source(config):
        asked.append(config.name)
        return fake_training().load(config)

    run(order(tmp_path), dataset_source=source)
    assert asked == ["digits"]
