"""What every ledger must do, whatever database is below it: a suite to run over each.

Subclass `LedgerContract` in a test module, with a fixture `ledger_url` that names a new, empty
database.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.ledger import Ledger
from service.ledger.testing_records import (
    border,
    contents,
    new_search,
    plan,
    round_record,
    segment_record,
    trial_record,
)
from service.messages import AnyMessage, Began, Failed, Finished, Interrupted, Planned, Progress
from trainers.errors import LedgerError


def _segment_in_use(ledger: Ledger, *, num_attempts: int = 1) -> str:
    """Return a new search with trials 0 to 3 and one segment over 0 and 1, begun so often."""
    search_id = new_search(ledger)
    ledger.add_trials(search_id, [trial_record(i) for i in range(4)])
    ledger.add_segments(search_id, [segment_record("r0b0s0", [0, 1])])
    for _ in range(num_attempts):
        ledger.begin_attempt(search_id, "r0b0s0")
    return search_id


def _all_messages(search_id: str, attempt: int) -> list[AnyMessage]:
    """One attempt's messages, in the order in which a worker would send them."""
    of: dict[str, Any] = {"search_id": search_id, "segment_id": "r0b0s0", "attempt": attempt}
    return [
        Began(**of, host="h", pid=7),
        Planned(**of, plan=plan()),
        border(search_id, attempt, [1, 2], sequence=0, grad_norm=math.inf),
        border(search_id, attempt, [3], sequence=1, train_loss=math.nan),
        border(search_id, attempt, [4], sequence=2, status="stopped_early", sparsity=0.5),
        Interrupted(**of),
        Failed(**of, error="worker died", worker_died=True, began=True),
        Finished(**of, seconds=2.0),
    ]


class LedgerContract:
    """What a ledger promises. Needs a fixture `ledger_url`: a new, empty database."""

    @pytest.fixture
    def ledger(self, ledger_url: str) -> Iterator[Ledger]:
        """Yield a ledger in the new database."""
        with Ledger.open(ledger_url) as ledger:
            yield ledger

    def test_search_comes_back_as_it_was_given(self, ledger: Ledger) -> None:
        """Mappings keep their order, and non-finite numbers."""
        spec = {"z": [1, None, "1e-4"], "a": {"low": -math.inf, "b": True}}
        made = ledger.create_search(
            name="plates cnn!",
            kind="search",
            project="p",
            spec=spec,
            seed=2**62,
            versions={"x": "1"},
        )
        assert made.search_id == "plates-cnn-1"
        assert ledger.search("plates-cnn-1") == made
        assert list(made.spec) == ["z", "a"]
        assert (made.spec, made.seed, made.state) == (spec, 2**62, "running")
        assert [search.search_id for search in ledger.searches()] == ["plates-cnn-1"]

    def test_names_get_numbers_that_nobody_else_gets(self, ledger: Ledger) -> None:
        """Eight threads with a ledger each, so that only the database keeps them apart."""
        made: list[str] = []

        def create() -> None:
            with Ledger.open(ledger.url) as mine:
                made.extend(new_search(mine) for _ in range(3))

        threads = [threading.Thread(target=create) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(made) == sorted(f"demo-{n}" for n in range(1, 25))

    def test_missing_ids_are_named_with_those_there_are(self, ledger: Ledger) -> None:
        """Every kind of id."""
        with pytest.raises(LedgerError, match="no search 'x'; it has no search yet"):
            ledger.search("x")
        search_id = _segment_in_use(ledger)
        for call in (ledger.trials, ledger.rounds, ledger.events, ledger.usage, ledger.spans):
            with pytest.raises(LedgerError, match="no search 'x'; it has demo-1"):
                call("x")
        with pytest.raises(LedgerError, match="no trial '9'; it has 0, 1, 2, 3"):
            ledger.update_trials(search_id, [(9, {"state": "failed"})])
        with pytest.raises(LedgerError, match="no segment 's9'; it has r0b0s0"):
            ledger.begin_attempt(search_id, "s9")
        with pytest.raises(LedgerError, match="no field 'colour'"):
            ledger.update_trials(search_id, [(0, {"colour": 1})])
        with pytest.raises(LedgerError, match="refused a statement"):
            ledger.create_search(name="demo", spec={}, seed=None)  # type: ignore[arg-type]

    def test_stop_and_test_looks_are_seen_by_everybody(self, ledger: Ledger) -> None:
        """Written through one connection, read through another."""
        search_id = new_search(ledger)
        with Ledger.open(ledger.url) as other:
            assert not other.stop_requested(search_id)
            ledger.request_stop(search_id)
            assert other.stop_requested(search_id)
            other.clear_stop(search_id)
            assert not ledger.stop_requested(search_id)
            assert [other.count_test_look(search_id, why) for why in ("final", "again")] == [1, 2]
        assert ledger.search(search_id).test_looks == 2
        assert [e.payload["why"] for e in ledger.events(search_id, "test_look")] == [
            "final",
            "again",
        ]

    def test_rounds_are_replaced_by_number(self, ledger: Ledger) -> None:
        """The recipe's checks are round -1 and come first."""
        search_id = new_search(ledger)
        recipe = round_record(-1, kind="recipe", outcome={"gain": math.nan})
        ledger.put_round(search_id, round_record(0))
        ledger.put_round(search_id, recipe)
        ledger.put_round(search_id, round_record(0, state="finished", reasons=[{"path": "x"}]))
        first, second = ledger.rounds(search_id)
        assert (first.round, second.round, second.state) == (-1, 0, "finished")
        assert math.isnan(first.outcome["gain"])
        assert second.reasons == [{"path": "x"}]

    def test_trials_are_added_once_and_found_by_what_they_are(self, ledger: Ledger) -> None:
        """Adding a batch again keeps what became of its trials."""
        search_id = new_search(ledger)
        batch = [
            trial_record(i, batch=i // 2, role="baseline" if i == 0 else "search") for i in range(5)
        ]
        assert ledger.next_trial_id(search_id) == 0
        ledger.add_trials(search_id, batch)
        ledger.update_trials(
            search_id,
            [(1, {"state": "complete", "metrics": {"v": math.inf}}), (2, {"state": "pruned"})],
        )
        ledger.add_trials(search_id, [*batch, trial_record(5, parent_trial=1)])
        assert ledger.next_trial_id(search_id) == 6

        def ids(**conditions: Any) -> list[int]:
            return [trial.trial_id for trial in ledger.trials(search_id, **conditions)]

        assert ids() == [0, 1, 2, 3, 4, 5]
        assert ids(batch=1) == [2, 3]
        assert ids(states=["complete", "pruned"]) == [1, 2]
        assert ids(role="search", trial_ids=[5, 0, 3]) == [3, 5]
        assert ids(trial_ids=[]) == []
        counts = {p.state: (p.num_trials, p.horizon_epochs) for p in ledger.progress(search_id)}
        assert counts == {"complete": (1, 20), "pruned": (1, 20), "waiting": (4, 80)}
        assert ledger.trials(search_id, trial_ids=[1])[0].metrics == {"v": math.inf}
        assert ledger.trials(search_id, trial_ids=[5]) == [trial_record(5, parent_trial=1)]

    def test_update_of_trials_is_all_or_nothing(self, ledger: Ledger) -> None:
        """One bad row undoes the batch."""
        search_id = _segment_in_use(ledger)
        with pytest.raises(LedgerError):
            ledger.update_trials(search_id, [(0, {"state": "failed"}), (1, {"seed": 2**70})])
        assert ledger.trials(search_id)[0].state == "waiting"

    def test_first_plan_of_a_signature_is_kept(self, ledger: Ledger) -> None:
        """Also where a worker proposes another one later."""
        search_id = new_search(ledger)
        assert ledger.put_plan(search_id, plan(fuse_width=8)) == plan(fuse_width=8)
        assert ledger.put_plan(search_id, plan(fuse_width=2)) == plan(fuse_width=8)
        assert ledger.plans(search_id) == {"s": plan(fuse_width=8)}

    def test_border_is_written_whole(self, ledger: Ledger) -> None:
        """Epochs with NaN and infinity, checkpoints, usage and the trials' progress."""
        search_id = _segment_in_use(ledger)
        sent = border(
            search_id, 1, [1, 2], status="diverged", lr=math.nan, grad_norm=math.inf, own=2.0
        )
        assert ledger.apply(sent)
        assert not ledger.apply(sent)
        rows = ledger.epoch_rows(search_id, [1])
        assert [(row[0], row[1], row[2]) for row in rows] == [(1, 1, "running"), (1, 2, "diverged")]
        metrics = rows[1][3]
        assert math.isnan(metrics.pop("lr"))
        assert metrics == {"val_loss": 1.0201, "grad_norm": math.inf, "own": 2.0, "busy_s": 0.5}
        assert ledger.values_at(search_id, [0, 1, 2], 2, "own") == {0: 2.0, 1: 2.0}
        assert ledger.values_at(search_id, [0], 2, "val_loss") == {0: 0.0201}
        assert math.isnan(ledger.values_at(search_id, [0], 2, "lr")[0])
        assert ledger.values_at(search_id, [0], 2, "val_r2") == {}
        assert list(ledger.checkpoints(search_id, [1, 2]).values()) == [sent.checkpoints[1]]
        assert ledger.usage(search_id) == [("r0b0s0", 1, sent.usage[0])]
        first = ledger.trials(search_id)[0]
        assert (first.epochs_done, first.state) == (2, "diverged")
        assert first.reason == "diverged at epoch 2"

    def test_border_of_an_unknown_trial_leaves_nothing_behind(self, ledger: Ledger) -> None:
        """A border is one transaction."""
        search_id = _segment_in_use(ledger)
        before = contents(ledger, search_id)
        with pytest.raises(LedgerError):
            ledger.apply(border(search_id, 1, [1], trial_ids=[0, 99]))
        assert contents(ledger, search_id) == before

    def test_progress_is_never_written(self, ledger: Ledger) -> None:
        """It is for the live display only."""
        search_id = _segment_in_use(ledger)
        rows = border(search_id, 1, [1]).rows
        seen = Progress(search_id=search_id, segment_id="r0b0s0", attempt=1, rows=rows)
        assert ledger.apply_many([seen, border(search_id, 1, [1])]) == [False, True]
        assert not ledger.apply(seen)

    def test_zombie_changes_nothing(self, ledger: Ledger) -> None:
        """An attempt that was given up, and goes on reporting after its successor began."""
        search_id = _segment_in_use(ledger)
        assert ledger.apply(border(search_id, 1, [1, 2]))
        assert ledger.begin_attempt(search_id, "r0b0s0") == 2
        assert ledger.apply(border(search_id, 2, [1, 2, 3]))
        before = contents(ledger, search_id)
        late = [border(search_id, 1, [3, 4], sequence=1), *_all_messages(search_id, 1)]
        assert ledger.apply_many(late) == [False] * len(late)
        assert contents(ledger, search_id) == before
        assert ledger.values_at(search_id, [0], 1, "val_loss") == {0: 0.0102}

    def test_split_segment_hands_its_fence_to_its_children(self, ledger: Ledger) -> None:
        """The parent is heard no more; rows of a child replace the parent's."""
        search_id = _segment_in_use(ledger, num_attempts=3)
        ledger.apply(border(search_id, 3, [1]))
        halves = [segment_record("r0b0s0a", [0]), segment_record("r0b0s0b", [1])]
        ledger.split_segment(search_id, "r0b0s0", halves)
        ledger.split_segment(search_id, "r0b0s0", halves)
        parent, *children = ledger.segments(search_id)
        assert [child.attempt for child in children] == [3, 3]
        assert parent.state == "split"
        assert not ledger.apply(border(search_id, 3, [2], sequence=1))
        with pytest.raises(LedgerError, match="is split and cannot be begun"):
            ledger.begin_attempt(search_id, "r0b0s0")
        assert ledger.begin_attempt(search_id, "r0b0s0a") == 4
        ledger.apply(border(search_id, 4, [1], segment_id="r0b0s0a", trial_ids=[0]))
        assert ledger.values_at(search_id, [0, 1], 1, "val_loss") == {0: 0.0104, 1: 1.0103}

    def test_segments_end_by_rule(self, ledger: Ledger) -> None:
        """An interrupted one waits for its next attempt, which starts with a clean slate."""
        search_id = _segment_in_use(ledger)
        messages = _all_messages(search_id, 1)
        assert ledger.apply(messages[0])
        assert ledger.apply(messages[5])
        assert [s.segment_id for s in ledger.segments(search_id, states=["waiting"])] == ["r0b0s0"]
        assert ledger.apply(messages[6])
        (failed,) = ledger.segments(search_id, round=0, batch=0, rung=0)
        assert (failed.state, failed.error, failed.host) == ("failed", "worker died", "h")
        assert ledger.begin_attempt(search_id, "r0b0s0") == 2
        (again,) = ledger.segments(search_id)
        assert (again.state, again.error, again.host) == ("running", "", "")
        ledger.update_segment(search_id, "r0b0s0", state="cancelled")
        assert ledger.segments(search_id)[0].state == "cancelled"

    @settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=[
            HealthCheck.function_scoped_fixture,
            HealthCheck.differing_executors,
        ],
    )
    @given(data=st.data())
    def test_messages_may_repeat_and_change_places(
        self, ledger: Ledger, data: st.DataObject
    ) -> None:
        """Any order, repeats, stale attempts and grouping end in the same tables."""
        straight = _segment_in_use(ledger, num_attempts=2)
        ledger.apply_many(_all_messages(straight, 2))

        search_id = _segment_in_use(ledger)
        if data.draw(st.booleans(), label="the first attempt had begun to report"):
            ledger.apply(_all_messages(search_id, 1)[0])
        ledger.begin_attempt(search_id, "r0b0s0")
        stale, current = _all_messages(search_id, 1), _all_messages(search_id, 2)
        repeats = data.draw(st.lists(st.sampled_from([*stale, *current]), max_size=12))
        left = data.draw(st.permutations([*current, *repeats]))
        while left:
            size = data.draw(st.integers(1, len(left)))
            ledger.apply_many(left[:size])
            left = left[size:]
        assert contents(ledger, search_id) == contents(ledger, straight)

    def test_spans_windows_and_seconds(self, ledger: Ledger) -> None:
        """A search's seconds are the sum over its spans; windows are found by overlap."""
        search_id = new_search(ledger)
        where = {"host": "h", "boot_id": "b", "pid": 1, "started_unix_s": 0.0}
        for number, started_s in enumerate((10.0, 100.0)):
            span = ledger.open_span(search_id, started_s=started_s, **where)  # type: ignore[arg-type]
            assert span.span == number
            ledger.extend_span(search_id, number, started_s + 5)
            ledger.extend_span(search_id, number, started_s + 4)
        assert ledger.search(search_id).seconds == 10.0
        assert [span.ended_s for span in ledger.spans(search_id)] == [15.0, 105.0]
        windows = [
            {
                "host": "h",
                "boot_id": "b",
                "meter_epoch": "m",
                "seq": i,
                "started_s": float(i),
                "ended_s": i + 1.0,
                "started_unix_s": 0.0,
                "payload": {"cpu_j": 1.5},
            }
            for i in range(5)
        ]
        ledger.put_windows(windows)
        ledger.put_windows(windows[:2])
        ledger.put_windows([])
        assert ledger.windows("h", "b", 1.5, 3.0) == windows[1:3]
        assert ledger.windows("h", "other boot", 0.0, 9.0) == []

    def test_readers_are_not_blocked_by_a_writer(self, ledger: Ledger) -> None:
        """They see the last committed state meanwhile."""
        search_id = new_search(ledger)
        with Ledger.open(ledger.url) as reader, ledger._writing() as connection:
            connection.execute(sa.text("UPDATE searches SET reason = 'half-way'"))
            assert reader.search(search_id).reason == ""

    def test_threads_may_share_a_ledger(self, ledger: Ledger) -> None:
        """Every write of every thread is there in the end."""
        search_id = _segment_in_use(ledger)

        def write(first: int) -> None:
            for i in range(first, first + 10):
                ledger.add_event(search_id, "tick", {"i": i})
                ledger.apply(border(search_id, 1, [i], sequence=i))

        threads = [threading.Thread(target=write, args=(first,)) for first in (1, 11, 21, 31)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(event.payload["i"] for event in ledger.events(search_id)) == list(
            range(1, 41)
        )
        assert [row[1] for row in ledger.epoch_rows(search_id, [0])] == list(range(1, 41))
        assert ledger.trials(search_id)[0].epochs_done == 40
