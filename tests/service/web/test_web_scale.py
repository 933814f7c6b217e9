"""Many trials and many searches: answers stay small, and no query reads a whole table."""

import sqlite3
import time

import pytest
import sqlalchemy as sa
from web_search import SPEC

from service.ledger.schema import epochs, searches, trials
from service.ledger.store import insert_new, row_of
from service.ledger.testing_records import round_record, trial_record

MAX_BYTES = 2_000_000
HTML = {"accept": "text/html"}
CURVES = "curves?max_points=400"


def fill(ledger, num_searches, num_trials, num_epochs=50):
    """Put that many finished searches into a ledger; the last has that many trials."""
    big = ledger.create_search(name="big", spec=SPEC, seed=0, owner="ada").search_id
    ledger.put_round(big, round_record(0, state="finished", planned_trials=num_trials))
    with ledger._writing() as connection:
        row = dict(
            connection.execute(sa.select(searches).where(searches.c.search_id == big))
            .mappings()
            .one()
        )
        others = [
            {**row, "search_id": f"s-{n}", "name": "s", "number": n, "state": "finished",
             "created_unix_s": row["created_unix_s"] - n, "finished_unix_s": row["created_unix_s"]}
            for n in range(1, num_searches)
        ]  # fmt: skip
        insert_new(connection, searches, others)
        rows = [
            row_of(
                trial_record(
                    i,
                    params={"optimizer.lr": 1e-4 * 1.001**i, "model.width": 16 + i % 100},
                    config={"optimizer": {"lr": 0.1}, "model": {"width": 16}},
                    state="pruned" if i % 3 else "complete",
                    epochs_done=num_epochs,
                    horizon_epochs=num_epochs,
                    metrics={"val_error": 0.5 + (i * 7919 % 1000) / 4000, "val_loss": 1.0},
                ),
                search_id=big,
            )
            for i in range(num_trials)
        ]
        insert_new(connection, trials, rows)
        for start in range(0, num_trials, 1000):
            insert_new(
                connection,
                epochs,
                [
                    {"search_id": big, "trial_id": i, "epoch": e, "attempt": 1, "status": "running",
                     "val_loss": 1.0 / e, "busy_s": 0.01, "reason": ""}
                    for i in range(start, min(start + 1000, num_trials))
                    for e in range(1, num_epochs + 1)
                ],
            )  # fmt: skip
    ledger.update_search(big, state="finished", finished_unix_s=row["created_unix_s"] + 1)
    return big


@pytest.fixture
def statements():
    """Every statement that any engine runs meanwhile, with its parameters."""
    seen = []

    def note(connection, cursor, statement, parameters, context, executemany):
        seen.append((statement, parameters))

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(sa.engine.Engine, "before_cursor_execute", note)


def whole_tables_read(path, statements):
    """Return what SQLite's plans say of statements that read a large table without an index."""
    found = []
    with sqlite3.connect(path) as connection:
        for statement, parameters in statements:
            if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
                continue
            for *_, step in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters):
                words = step.split()
                scans = words[0] == "SCAN" and words[1] in ("trials", "epochs", "searches")
                if scans and "INDEX" not in words:
                    found.append((step, statement))
    return found


@pytest.mark.parametrize(
    ("num_searches", "num_trials"),
    [(120, 1800), pytest.param(1000, 10_000, marks=pytest.mark.long)],
)
def test_pages_and_data_stay_small_and_follow_indices(
    service, statements, tmp_path, num_searches, num_trials
):
    big = fill(service.ledger, num_searches, num_trials)
    api = f"/api/v1/searches/{big}"
    addresses = [
        *("/", "/?text=s-5", "/?state=finished", "/jobs", f"/searches/{big}"),
        *(f"/searches/{big}/trials/7", f"/compare?id={big}&id=s-3"),
        *("/api/v1/searches?limit=500", f"{api}/trials?limit=500", f"{api}/trials/7"),
        f"{api}/trials?sort=metrics.val_error&where=state%3Dcomplete&limit=50",
        *(f"{api}/{CURVES}", f"{api}/history", f"{api}/charts", "/api/v1/jobs"),
    ]
    took_s = {}
    for user in ("ada", "bob", "root"):
        client = service.client(user)
        for address in addresses:
            statements.clear()
            began_s = time.perf_counter()
            answer = client.get(address, headers={} if "/api/" in address else HTML)
            took_s[address] = max(time.perf_counter() - began_s, took_s.get(address, 0.0))
            if user == "bob":
                assert answer.status_code in (200, 404)
            else:
                assert answer.status_code == 200, (user, address)
                assert len(answer.content) < MAX_BYTES, address
            assert whole_tables_read(tmp_path / "isoflop.db", statements) == [], address
    for address, seconds in took_s.items():
        print(f"{seconds:6.2f} s  {address}")


def test_the_first_page_costs_the_same_however_many_searches_there_are(service, statements):
    client = service.client("ada")
    numbers = []
    for num_searches in (60, 160):
        fill(service.ledger, num_searches, 10)
        client.get("/", headers=HTML)
        statements.clear()
        assert client.get("/", headers=HTML).status_code == 200
        numbers.append(len(statements))
    assert numbers[1] <= numbers[0]
