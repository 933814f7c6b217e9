"""Who may do what, as a table."""

from dataclasses import replace

import pytest

from service.jobs.permissions import may_change, may_read, may_submit
from service.jobs.records import JobRecord, UserRecord

JOB = JobRecord(
    job_id="j-1", owner="ann", kind="search", action={"run": {}}, name="n",
    project="vision/plates", spec={}, priority="normal",
)  # fmt: skip


def user(name: str, role: str, *projects: str) -> UserRecord:
    return UserRecord(user_id=name, role=role, projects=projects)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("who", "reads", "submits", "changes"),
    [
        (user("ann", "submitter"), True, True, True),
        (user("ann", "viewer"), True, False, False),
        (user("bob", "viewer"), False, False, False),
        (user("bob", "viewer", "vision/*"), True, False, False),
        (user("bob", "viewer", "Vision/*"), False, False, False),
        (user("bob", "submitter", "vision/plates"), True, True, False),
        (user("bob", "submitter", "text/*"), False, True, False),
        (user("eve", "admin"), True, True, True),
    ],
)
def test_roles(who: UserRecord, reads: bool, submits: bool, changes: bool) -> None:
    assert may_read(who, JOB.owner, JOB.project) is reads
    assert may_submit(who) is submits
    assert may_change(who, JOB) is changes
    gone = replace(who, disabled=True)
    assert [may_read(gone, "ann", "p"), may_submit(gone), may_change(gone, JOB)] == [False] * 3


def test_a_search_of_nobody_is_read_by_its_project_only() -> None:
    assert not may_read(user("ann", "viewer"), None, "vision/plates")
    assert may_read(user("ann", "viewer", "vision/*"), None, "vision/plates")
    assert may_read(user("eve", "admin"), None, "vision/plates")
