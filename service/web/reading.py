"""Looking up what a request names, and refusing what its sender may not see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, cast, get_args

from fastapi import Path, Query

from service.jobs.permissions import may_change, may_read
from service.jobs.records import JobRecord
from service.ledger.browse import Condition, Operator
from service.ledger.records import SearchRecord
from service.web.access import Identity
from service.web.problems import Problem, not_found
from service.web.services import Services
from trainers.errors import ConfigError, MissingError

SearchId = Annotated[str, Path(max_length=200, description="Of a search or study.")]
JobId = Annotated[str, Path(max_length=60, description="Of a job.")]
TrialId = Annotated[int, Path(ge=0, le=2**31 - 1, description="Number of a trial.")]
Limit = Annotated[int, Query(ge=1, le=500, description="Rows of a page.")]
After = Annotated[str | None, Query(max_length=500, description="`next` of the page before.")]
Where = Annotated[
    list[Annotated[str, Query(max_length=200)]] | None,
    Query(
        max_length=20,
        description="Conditions, all must hold: `state=complete`, `metrics.val_error<=0.1`, "
        "`params.optimizer.kind=adam`, `round=0`.",
    ),
]
_OPERATORS = sorted(get_args(Operator), key=len, reverse=True)
_CONDITION = re.compile(rf"\s*([^\s<>=!]+)\s*({'|'.join(_OPERATORS)})\s*(.+?)\s*", re.DOTALL)


def search_for(services: Services, identity: Identity, search_id: str) -> SearchRecord:
    """Return a search that may be read.

    Raises:
        Problem: 404, also for one that exists but is not the reader's to see.

    """
    try:
        search = services.ledger.search(search_id)
    except MissingError:
        raise not_found("search", search_id) from None
    if search.state == "deleted" or not may_read(identity.user, search.owner, search.project):
        raise not_found("search", search_id)
    return search


def own_search(services: Services, identity: Identity, search_id: str) -> SearchRecord:
    """Return a search that may be changed.

    Raises:
        Problem: 404 for one that may not be seen, 403 for one that may only be read.

    """
    search = search_for(services, identity, search_id)
    own = identity.user.role == "submitter" and search.owner == identity.user.user_id
    if not own and identity.user.role != "admin":
        raise Problem(403, f"search `{search_id}` is not yours; only its owner and admins act")
    return search


def job_for(services: Services, identity: Identity, job_id: str) -> JobRecord:
    """Return a job that may be read.

    Raises:
        Problem: 404, also for one that exists but is not the reader's to see.

    """
    try:
        job = services.ledger.job(job_id)
    except MissingError:
        raise not_found("job", job_id) from None
    if not may_read(identity.user, job.owner, job.project):
        raise not_found("job", job_id)
    return job


def own_job(services: Services, identity: Identity, job_id: str) -> JobRecord:
    """Return a job that may be changed.

    Raises:
        Problem: 404 for one that may not be seen, 403 for one that may only be read.

    """
    job = job_for(services, identity, job_id)
    if not may_change(identity.user, job):
        raise Problem(403, f"job `{job_id}` belongs to `{job.owner}`; only they and admins act")
    return job


def conditions(where: Sequence[str] | None) -> list[Condition]:
    """Read conditions as people write them.

    Raises:
        ConfigError: for one that cannot be read.

    """
    found = []
    for text in where or ():
        match = _CONDITION.fullmatch(text)
        if match is None or "\0" in text:
            raise ConfigError(
                f"a condition is a field, one of {' '.join(_OPERATORS)} and a value, but got "
                f"{text[:60]!r}; e.g. metrics.val_error<=0.1"
            )
        field, operator, value = match.groups()
        found.append(Condition(field=field, operator=cast(Operator, operator), value=value))
    return found
