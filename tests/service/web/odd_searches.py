"""Searches as nobody wants them: hostile texts, huge names, nothing in them, or a bad end."""

from service.jobs.records import JobRecord
from service.ledger import Ledger
from service.ledger.testing_records import border, round_record, segment_record, trial_record

MARKUP = "<img src=/hacked onerror=hacked=1>\"'`</script><script>hacked=1</script>"
SPEC = {"kind": "search", "objectives": {"val_error": "minimize"}}


def add_odd_searches(ledger: Ledger, owner: str) -> list[str]:
    """Add one of each kind; return their ids."""
    return [
        hostile(ledger, owner),
        ledger.create_search(name="n" * 300, project="ü/☃/" + "p" * 300, spec=SPEC, seed=0,
                             owner=owner).search_id,
        empty(ledger, owner),
        *(ended(ledger, owner, state) for state in ("failed", "recipe_stopped", "stopped")),
    ]  # fmt: skip


def hostile(ledger: Ledger, owner: str) -> str:
    """Markup in every text that a user, a spec or an error can bring in."""
    path = f"model.{MARKUP}"
    spec = {**SPEC, "space": {path: [MARKUP, 2]}, "name": MARKUP, "note": MARKUP}
    search = ledger.create_search(name="hostile", project=MARKUP, spec=spec, seed=0, owner=owner)
    search_id = search.search_id
    ledger.put_round(
        search_id,
        round_record(
            0,
            state="finished",
            sampler_reason=MARKUP,
            space={path: [MARKUP, 2]},
            reasons=[{"path": path, "kind": "kept", "text": MARKUP}],
        ),
    )
    trial = trial_record(0, params={path: MARKUP}, config={"model": {MARKUP: MARKUP}})
    other = trial_record(1, params={path: "2"}, config={"model": {MARKUP: 2}})
    ledger.add_trials(search_id, [trial, other])
    ledger.add_segments(search_id, [segment_record("r0b0s0", [0, 1])])
    attempt = ledger.begin_attempt(search_id, "r0b0s0")
    ledger.apply(border(search_id, attempt, [1, 2], val_error=0.5, train_loss=float("inf")))
    end = {"state": "complete", "reason": MARKUP, "metrics": {"val_error": 0.5, MARKUP: 1.0}}
    ledger.update_trials(search_id, [(0, end), (1, end)])
    ledger.add_event(search_id, "warning", {"text": MARKUP})
    texts = dict.fromkeys(("name", "verdict", "reason", "consequence"), MARKUP)
    ledger.add_event(search_id, "verdict", {"step": 1, "passed": False, **texts})
    ledger.update_search(search_id, state="failed", reason=MARKUP)
    ledger.create_job(
        JobRecord(
            job_id="j-hostile",
            owner=owner,
            kind="search",
            action={"run": {}},
            name=MARKUP,
            project=MARKUP,
            spec=SPEC,
            priority="normal",
            state="failed",
            reason=MARKUP,
            created_unix_s=1.0,
            queued_unix_s=1.0,
        )
    )
    return search_id


def empty(ledger: Ledger, owner: str) -> str:
    """A search whose driver died before its first trial."""
    return ledger.create_search(name="empty", spec=SPEC, seed=0, owner=owner).search_id


def ended(ledger: Ledger, owner: str, state: str) -> str:
    """A search that ended otherwise than planned, with trials that never ran."""
    search_id = ledger.create_search(name=f"odd-{state}", spec=SPEC, seed=0, owner=owner).search_id
    ledger.add_trials(search_id, [trial_record(0), trial_record(1, state="running")])
    ledger.update_trials(search_id, [(0, {"state": "failed", "reason": "a worker died"})])
    ledger.update_search(search_id, state=state, reason=f"it {state}: `lr` too large")
    return search_id
