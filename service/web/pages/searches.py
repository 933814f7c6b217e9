"""Pages of one search, one trial, and several searches beside each other."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from service.energy import accounts
from service.jobs.permissions import may_change, may_read
from service.jobs.records import JobRecord
from service.ledger import Ledger
from service.ledger.codec import COMMON_METRICS
from service.ledger.records import SearchRecord, TrialRecord
from service.recipe.curves import Curve, diagnose
from service.report.numbers import setting
from service.search.yaml_loading import dump_yaml
from service.web.access import Identity
from service.web.pages.rendering import Visitor, render
from service.web.problems import not_found
from service.web.reading import SearchId, TrialId, Where, search_for
from service.web.routes.searches import live_state, shown
from service.web.services import Services, services_of
from trainers.config import flat

router = APIRouter(include_in_schema=False)
CURVES = ("val_loss", "train_loss", "val_error", "val_rmse", "lr", "grad_norm")
MAX_COMPARED = 8


@router.get("/searches/{search_id}")
def search_page(
    request: Request, identity: Visitor, search_id: SearchId, where: Where = None
) -> HTMLResponse:
    """Show a search; its charts and tables are read by the page itself."""
    services = services_of(request)
    search = search_for(services, identity, search_id)
    ledger = services.ledger
    job = latest_job(ledger, search_id)
    state = live_state(services, search_id)
    planned = state["epochs_planned"]
    return render(
        request,
        "search.html",
        identity=identity,
        search=shown(services, [search])[0],
        job=job,
        may_act=may_act(identity, search, job),
        percent=round(100 * state["epochs_done"] / planned) if planned else 0,
        rounds=ledger.rounds(search_id),
        verdicts=[event.payload for event in ledger.events(search_id, "verdict")],
        warnings=[str(e.payload["text"]) for e in ledger.events(search_id, "warning")],
        where=where or [],
        fields=_fields(search),
        curve_metrics=CURVES,
    )


@router.get("/searches/{search_id}/trials/{trial_id}")
def trial_page(
    request: Request, identity: Visitor, search_id: SearchId, trial_id: TrialId
) -> HTMLResponse:
    """Show one trial."""
    services = services_of(request)
    search = search_for(services, identity, search_id)
    found = services.ledger.trials(search_id, trial_ids=[trial_id])
    if not found:
        raise not_found("trial", trial_id)
    trial = found[0]
    metered = accounts(services.ledger, search_id)
    own = metered.of_trial(trial_id) or {}
    job = latest_job(services.ledger, search_id)
    return render(
        request,
        "trial.html",
        identity=identity,
        search=shown(services, [search])[0],
        trial=trial,
        may_act=may_act(identity, search, job),
        active_kwh=own.get("active_kwh"),
        unmeasured_kwh=own.get("unmeasured_kwh"),
        provenance=_provenance(metered),
        diagnosis=_diagnosis(services, search_id, trial),
        config=dump_yaml(dict(trial.config)),
        artifacts=_artifacts(services, search_id, trial_id),
        curve_metrics=[name for name in CURVES if name in COMMON_METRICS][:4],
    )


@router.get("/compare")
def compare_page(
    request: Request,
    identity: Visitor,
    id: Annotated[list[str] | None, Query(max_length=MAX_COMPARED)] = None,
) -> HTMLResponse:
    """Show several searches beside each other."""
    services = services_of(request)
    records = [search_for(services, identity, one) for one in dict.fromkeys(id or ())]
    return render(
        request,
        "compare.html",
        identity=identity,
        searches=shown(services, records),
        differences=_differences(records),
    )


def latest_job(ledger: Ledger, search_id: str) -> JobRecord | None:
    """Return the job that last worked on a search; None: it was run from the command line."""
    found = ledger.jobs(search_id=search_id, limit=1)
    return found[0] if found else None


def may_act(identity: Identity, search: SearchRecord, job: JobRecord | None) -> bool:
    """Say whether buttons that change something are shown."""
    if not may_read(identity.user, search.owner, search.project):
        return False
    return job is not None and may_change(identity.user, job)


def _fields(search: SearchRecord) -> list[str]:
    space = search.spec.get("space") or {}
    objectives = search.spec.get("objectives") or {"val_error": "minimize"}
    named = [f"metrics.{name}<=" for name in objectives] + [f"params.{path}=" for path in space]
    return ["state=complete", "state=pruned", "round=0", "role=finalist", *named]


def _differences(records: list[SearchRecord]) -> list[tuple[str, list[str]]]:
    """Return the settings whose values are not all equal."""
    specs: list[dict[str, Any]] = [dict(flat(dict(record.spec))) for record in records]
    paths = dict.fromkeys(path for spec in specs for path in spec)
    rows = [(path, [setting(spec.get(path, "–")) for spec in specs]) for path in paths]
    return [(path, values) for path, values in rows if len(set(values)) > 1]


def _provenance(metered: Any) -> list[tuple[str, str]]:
    facts = metered.provenance
    return [
        ("measured", f"{metered.measured_share:.0%} by sensors, the rest estimated"),
        ("methods", ", ".join(f"{d} {m}" for d, m in facts.get("methods", {}).items())),
        ("split", str(facts.get("attribution", {}).get("cpu", ""))),
        ("boundary", str(facts.get("boundary", ""))),
    ]


def _diagnosis(services: Services, search_id: str, trial: TrialRecord) -> list[str]:
    """Say what the curves show; without a recorded loss of knowing nothing the first stands in."""
    rows = [m for _, _, _, m in services.ledger.epoch_rows(search_id, [trial.trial_id])]
    losses = [(m["train_loss"], m["val_loss"]) for m in rows if {"train_loss", "val_loss"} <= {*m}]
    if len(losses) < 2:
        return []
    curve = Curve(
        trial_id=trial.trial_id,
        train_losses=[train for train, _ in losses],
        val_losses=[val for _, val in losses],
        diverged=trial.state == "diverged",
    )
    found = diagnose(curve, dummy_loss=_dummy_loss(services, search_id) or losses[0][0])
    return [f"{found.kind.replace('_', ' ')}: {found.reason}"]


def _dummy_loss(services: Services, search_id: str) -> float | None:
    for event in services.ledger.events(search_id, "verdict"):
        loss = (event.payload.get("data") or {}).get("dummy_loss")
        if loss:
            return float(loss)
    return None


def _artifacts(services: Services, search_id: str, trial_id: int) -> list[str]:
    found = services.ledger.checkpoints(search_id, [trial_id])
    return [
        f"checkpoint after epoch {ref.epoch}, {ref.num_bytes / 1024:.0f} KiB, "
        f"sha256 {ref.sha256[:16]}"
        for ref in found.values()
    ]
