"""Who may do what. Pure rules, for the API and the pages alike.

| role | reads | submits | changes |
|---|---|---|---|
| viewer | own jobs and searches, and the projects granted | no | nothing |
| submitter | the same | yes | own jobs |
| admin | everything | yes | everything |
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from service.jobs.records import JobRecord, UserRecord


def may_read(user: UserRecord, owner: str | None, project: str) -> bool:
    """Say whether a user may see a job or search, and everything that belongs to it.

    Args:
        user: who asks.
        owner: whose it is; None: it was run from the command line, so nobody's.
        project: what it is booked on.

    """
    if user.disabled:
        return False
    if user.role == "admin" or user.user_id == owner:
        return True
    return any(fnmatchcase(project, pattern) for pattern in user.projects)


def may_submit(user: UserRecord) -> bool:
    """Say whether a user may start work; what of it then waits is for quotas to say."""
    return not user.disabled and user.role in ("submitter", "admin")


def may_change(user: UserRecord, job: JobRecord) -> bool:
    """Say whether a user may stop, cancel, resume or extend a job, or stop its trials."""
    if user.disabled:
        return False
    return user.role == "admin" or (user.role == "submitter" and user.user_id == job.owner)
