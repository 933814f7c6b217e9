"""Energy of a month by owner: each window where it began, and no search computed for nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.energy.windows import MemberUse, Window, member_key
from service.jobs.energy_use import MonthlyUse, month_start_unix_s
from service.ledger import Ledger
from service.ledger.book_records import unix_s_of

DAY_S = 86_400.0
STARTED_S = 100.0
"""Monotonic seconds at which the search below began."""


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "isoflop.db") as ledger:
        yield ledger


def new_search(ledger: Ledger, began_unix_s: float) -> str:
    made = ledger.create_search(name="x", spec={}, seed=0, owner="ann")
    ledger.open_span(
        made.search_id, host="h", boot_id="b", pid=1, started_s=STARTED_S,
        started_unix_s=began_unix_s,
    )  # fmt: skip
    return made.search_id


def test_energy_of_a_search_is_computed_again_only_when_it_may_have_changed(
    ledger: Ledger,
) -> None:
    now = unix_s_of("2026-11-10")
    search_id = new_search(ledger, now)
    computed: list[int] = []
    use = MonthlyUse(ledger, lambda *_: computed.append(1) or float(len(computed)))
    assert [use.of(["ann"], now + s)["ann"] for s in (0, 10, 29, 31)] == [1, 1, 1, 2]
    ledger.update_search(search_id, state="finished")
    assert [use.of(["ann"], now + s)["ann"] for s in (32, 500)] == [3, 3]
    assert use.of(["bob"], now) == {"bob": 0}
    assert use.of(["ann"], now + 40 * DAY_S) == {"ann": 0}


def test_a_search_over_the_end_of_a_month_counts_in_each_what_was_used_then(
    ledger: Ledger,
) -> None:
    """One hour alone on a host of 1 kW, a quarter of it in December, by windows of 5 minutes."""
    december_unix_s = unix_s_of("2026-12-01")
    began_unix_s = december_unix_s - 45 * 60
    search_id = new_search(ledger, began_unix_s)
    use, seen = MonthlyUse(ledger), []
    for number in range(12):
        elapsed_s = 300.0 * number
        window = Window(
            host="h", boot_id="b", meter_epoch="m", seq=number,
            started_s=STARTED_S + elapsed_s, ended_s=STARTED_S + elapsed_s + 300.0,
            started_unix_s=began_unix_s + elapsed_s,
            cpu_j=300_000.0, cpu_idle_j=0.0, ram_j=0.0, busy_core_s=300.0,
            members={member_key(search_id, 1): MemberUse(cpu_s=300.0)},
        )  # fmt: skip
        ledger.put_windows([window.to_row()])
        ledger.extend_span(search_id, 0, window.ended_s)
        seen.append(use.of(["ann"], window.started_unix_s + 299.0)["ann"])
    assert seen[:9] == pytest.approx([n / 12 for n in range(1, 10)])  # November
    assert seen[9:] == pytest.approx([n / 12 for n in range(1, 4)])  # December
    ledger.update_search(search_id, state="finished")
    assert use.of(["ann"], december_unix_s + DAY_S) == {"ann": pytest.approx(0.25)}
    assert use.of(["ann"], december_unix_s + 40 * DAY_S) == {"ann": 0.0}


def test_energy_used_is_what_the_ledgers_accounts_say(ledger: Ledger) -> None:
    new_search(ledger, time.time())
    assert MonthlyUse(ledger).of(["ann"]) == {"ann": 0.0}


def test_months_begin_on_the_first_in_utc() -> None:
    assert month_start_unix_s(1795529539.0) == 1793491200.0  # November 2026
