"""The energy statement: rows and totals against the accounts, factors by hand, frozen editions."""

import json
import time
from dataclasses import replace

import pytest
from energy_helpers import RealTimeMeter, add_usage

from service.energy import EnergySession, accounts
from service.energy.books import FactorBook, make_statement
from service.energy.books.boamps import boamps_report
from service.energy.books.formats import written
from service.energy.books.freezing import next_edition
from service.energy.site import Site
from service.ledger import Ledger
from service.ledger.book_records import Factor, digest, unix_s_of
from service.messages import Usage
from trainers.errors import ConfigError, MissingError

DAY_S = 86_400.0


def run_search(ledger, name, project, owner, seconds=0.3, states=("complete", "pruned")):
    """Use a constant 17 W for a while, and split it over two trials."""
    record = ledger.create_search(
        name=name, project=project, owner=owner, spec={}, seed=0, mode="deterministic"
    )
    session = EnergySession.begin(ledger, record.search_id, meter=RealTimeMeter())
    host = ledger.spans(record.search_id)[0].host
    started_s = time.monotonic()
    deadline_s = started_s + seconds
    while time.monotonic() < deadline_s:
        pass
    usage = Usage(
        host=host,
        pid=1,
        started_s=started_s,
        ended_s=time.monotonic(),
        trial_busy_s={0: 0.6 * seconds, 1: 0.3 * seconds},
        padding_s=0.0,
    )
    add_usage(ledger, record.search_id, [usage])
    session.end()
    ledger.update_trials(
        record.search_id, [(i, {"state": state}) for i, state in enumerate(states)]
    )
    return record.search_id


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    with Ledger.open(tmp_path_factory.mktemp("books") / "isoflop.db") as opened:
        run_search(opened, "a", "vision/plates", "ada")
        run_search(opened, "b", "vision/plates", "bob", states=("failed", "complete"))
        run_search(opened, "c", "text", None)
        yield opened


def today():
    now = time.time()
    return {"from_unix_s": now - DAY_S, "to_unix_s": now + DAY_S}


@pytest.mark.parametrize("by", [["project"], ["project", "owner", "month"], ["search"], ["site"]])
def test_totals_are_the_sum_of_rows_and_of_the_accounts(ledger, by):
    statement = make_statement(ledger, FactorBook([]), by=by, **today())
    used = [accounts(ledger, search.search_id) for search in ledger.searches()]
    assert statement.total.kwh == pytest.approx(sum(one.own_kwh for one in used), rel=1e-9)
    assert statement.total.kwh > 0
    assert statement.total.kwh_gap == pytest.approx(sum(one.gap_kwh for one in used), abs=1e-15)
    for name in ("kwh", "kwh_pruned", "kwh_failed", "kwh_wasted", "kwh_with_pue", "trials"):
        rows = [getattr(row, name) for row in statement.rows]
        assert getattr(statement.total, name) == pytest.approx(sum(rows), rel=1e-12)


def test_every_attempt_is_counted_where_it_ended(ledger):
    statement = make_statement(ledger, FactorBook([]), by=["search"], **today())
    rows = {row.group["search"]: row for row in statement.rows}
    assert (rows["a-1"].complete, rows["a-1"].pruned, rows["a-1"].failed) == (1, 1, 0)
    assert (rows["b-1"].complete, rows["b-1"].pruned, rows["b-1"].failed) == (1, 0, 1)
    per_trial = accounts(ledger, "b-1").per_trial.set_index("trial_id")["active_kwh"]
    assert rows["b-1"].kwh_failed == pytest.approx(per_trial[0], rel=1e-9)
    assert rows["a-1"].kwh_failed == 0
    assert statement.total.searches == 3
    assert statement.total.trials == 6


def test_a_row_without_an_owner_says_so(ledger):
    statement = make_statement(ledger, FactorBook([]), by=["owner"], **today())
    assert [row.group["owner"] for row in statement.rows] == ["(none)", "ada", "bob"]


def test_nothing_outside_the_span_is_counted(ledger):
    now = time.time()
    before = make_statement(
        ledger, FactorBook([]), from_unix_s=now - 9 * DAY_S, to_unix_s=now - 8 * DAY_S
    )
    assert before.rows == ()
    assert before.total.kwh == 0
    assert before.total.kgco2e_location is None


def factor(**changes):
    values = {
        "site": "fra1",
        "basis": "location",
        "value": 56.0,
        "valid_from_unix_s": 0.0,
        "source": "RTE 2025",
    }
    return Factor(**{**values, **changes})


def test_factors_are_applied_by_host_and_time(ledger):
    middle = time.time() - 1000 * DAY_S
    book = FactorBook(
        [
            factor(value=900.0, valid_to_unix_s=middle),
            factor(value=56.0, valid_from_unix_s=middle),
            factor(basis="market", value=10.0),
            factor(basis="pue", value=1.25, source="operator"),
            factor(site="hel1", hosts="gpu-hel-*", value=70.0),
        ]
    )
    total = make_statement(ledger, book, **today()).total
    assert total.kwh_with_pue == pytest.approx(1.25 * total.kwh)
    assert total.pue == pytest.approx(1.25)
    assert total.kgco2e_location == pytest.approx(1.25 * total.kwh * 56 / 1000)
    assert total.kgco2e_market == pytest.approx(1.25 * total.kwh * 10 / 1000)
    assert total.kwh_without_location == 0
    assert total.sources == ["fra1 pue: operator", "fra1 location: RTE 2025",
                             "fra1 market: RTE 2025"]  # fmt: skip


def test_what_no_factor_covers_is_said_and_not_zero(ledger):
    total = make_statement(ledger, FactorBook([factor(hosts="elsewhere")]), **today()).total
    assert total.kgco2e_location is None
    assert total.kwh_without_location == pytest.approx(total.kwh)


def test_the_environment_speaks_where_no_dated_factor_does(ledger):
    site = Site.from_environment({"ISOFLOP_COUNTRY": "FRA", "ISOFLOP_PUE": "1.5"})
    total = make_statement(ledger, FactorBook([], site), **today()).total
    expected = 1.5 * total.kwh * site.intensity_g_per_kwh / 1000
    assert total.kgco2e_location == pytest.approx(expected)
    assert total.kgco2e_market is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"basis": "locaton"}, "did you mean `location`"),
        ({"value": -1.0}, ">= 0"),
        ({"value": float("nan")}, ">= 0"),
        ({"basis": "pue", "value": 0.9}, ">= 1"),
        ({"source": " "}, "source"),
        ({"valid_to_unix_s": 0.0}, "later"),
    ],
)
def test_bad_factors_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        factor(**changes)


@pytest.mark.parametrize("by", [[], ["projct"], ["month", "month"]])
def test_bad_groupings_are_refused(ledger, by):
    with pytest.raises(ConfigError, match=r"grouped by|at least one"):
        make_statement(ledger, FactorBook([]), by=by, **today())


@pytest.fixture(params=["sqlite", "postgres"])
def books(request):
    with Ledger.open(request.getfixturevalue(f"{request.param}_url")) as opened:
        yield opened


def test_one_factor_of_a_kind_is_valid_at_a_time(books):
    books.add_factor(factor())
    with pytest.raises(ConfigError, match="one location factor at a time"):
        books.add_factor(factor(valid_from_unix_s=DAY_S))
    books.end_factor("fra1", "location", DAY_S)
    books.add_factor(factor(valid_from_unix_s=DAY_S, value=50.0))
    assert [(f.value, f.valid_to_unix_s) for f in books.factors()] == [(56.0, DAY_S), (50.0, None)]
    with pytest.raises(ConfigError, match="until further notice"):
        books.end_factor("fra1", "market", DAY_S)


def content(kwh):
    row = {"project": "p", "kwh": kwh, "kwh_with_pue": kwh, "kgco2e_location": None,
           "kgco2e_market": None, "kwh_gap": 0.0}  # fmt: skip
    return {"from": "2026-01-01", "to": "2026-02-01", "by": ["project"], "rows": [row],
            "total": row}  # fmt: skip


def publish(books, kwh, reason="", name="2026-01"):
    known = books.editions(name)
    edition = next_edition(
        content(kwh), known[-1] if known else None,
        name=name, reason=reason, published_by="ada", unix_s=1.0,
    )  # fmt: skip
    return books.publish(edition)


def test_what_was_published_stays_and_a_correction_is_the_next_edition(books):
    first = publish(books, 1.0)
    with pytest.raises(ConfigError, match="nothing to correct"):
        publish(books, 1.0, reason="again")
    with pytest.raises(ConfigError, match="needs a reason"):
        publish(books, 2.0)
    second = publish(books, 1.5, reason="a meter was missing")
    assert books.edition("2026-01", 1) == first
    assert books.edition("2026-01") == second
    assert second.edition == 2
    assert second.difference["total"] == {"kwh": 0.5, "kwh_with_pue": 0.5}
    assert second.difference["rows"] == [{"project": "p", "kwh": 0.5, "kwh_with_pue": 0.5}]
    assert all(edition.verify() for edition in books.editions())
    assert not replace(second, content=content(9.0)).verify()
    with pytest.raises(ConfigError, match="in the meantime"):
        books.publish(second)
    with pytest.raises(MissingError, match="2026-01 edition 1"):
        books.edition("2026-02")


def test_a_hash_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1.5, None]}) == digest({"b": [1.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_boamps_report_holds_every_row_and_is_json(ledger):
    statement = make_statement(ledger, FactorBook([factor()]), by=["project"], **today())
    report = json.loads(json.dumps(boamps_report(statement, name="2026-11")))
    used = [measure["powerConsumption"] for measure in report["measures"]]
    assert sum(used) == pytest.approx(statement.total.kwh)
    assert report["header"]["reportId"] == "2026-11"
    assert report["task"]["nbRequest"] == 6
    assert report["environment"]["powerSourceCarbonIntensity"] == pytest.approx(56.0)


def test_a_project_that_looks_like_a_formula_is_text_in_a_spreadsheet(tmp_path):
    with Ledger.open(tmp_path / "l.db") as opened:
        run_search(opened, "x", "=cmd()", "ada", seconds=0.05)
        statement = make_statement(opened, FactorBook([]), by=["project"], **today())
    assert written(statement, "csv").splitlines()[1].startswith("'=cmd(),")
    assert json.loads(written(statement, "json"))["rows"][0]["project"] == "=cmd()"


def test_days_and_months_are_read():
    assert unix_s_of("1970-01-02") == DAY_S
    assert unix_s_of("1970-02") == 31 * DAY_S
    with pytest.raises(ConfigError, match="2026-11-24"):
        unix_s_of("yesterday")
