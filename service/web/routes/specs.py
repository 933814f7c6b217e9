"""Checking a spec before it is submitted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from service.recipe.record import plain
from service.web.access import Asking, require_role
from service.web.services import services_of
from service.web.specs import spec_mapping
from trainers.errors import ConfigError

router = APIRouter(tags=["jobs"])


class Draft(BaseModel):
    """A spec that somebody is writing."""

    model_config = ConfigDict(extra="forbid")
    spec: dict[str, Any] | str
    priority: str = Field("normal", max_length=40)
    estimate: bool = Field(
        False, description="Measure and estimate time and energy too; takes a second or two."
    )


class Verdict(BaseModel):
    """What is wrong with a spec, or what it would do."""

    valid: bool
    errors: list[str] = Field(description="One sentence per fault, with its line in YAML text.")
    preview: dict[str, Any] = Field(description="Plan, cost, quota left and place in the queue.")


@router.post("/specs/check", summary="Check a spec, start nothing")
def check(request: Request, identity: Asking, draft: Draft) -> Verdict:
    """Say what is wrong with a spec, or what it would do and what quota it would leave."""
    require_role(identity, "submitter", "admin")
    services = services_of(request)
    try:
        with spec_mapping(draft.spec) as mapping:
            preview = services.manager.preview(
                identity.user, mapping, draft.priority, estimate=draft.estimate
            )
    except ConfigError as error:
        return Verdict(valid=False, errors=str(error).splitlines(), preview={})
    return Verdict(valid=True, errors=[], preview=plain(preview.to_mapping()))
