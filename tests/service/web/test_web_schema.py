"""Whatever is sent, the API answers as its OpenAPI document says, and never with a 5xx."""

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, checks
from schemathesis.specs.openapi import checks as openapi_checks

CHECKS = (
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
)
KNOWN = {"search_id": "small-1", "trial_id": 3, "name": "report.html", "table": "trials"}
STREAMS = "/(live|stream)$"
"""Never end; other tests read them."""


@pytest.mark.parametrize(
    "num_requests", [3, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(3600)])]
)
def test_every_operation_answers_as_documented(service, search, num_requests):
    document = schemathesis.openapi.from_asgi("/api/v1/openapi.json", service.app)
    known = {**KNOWN, "job_id": _job(service)}
    asked = set()
    found = [one.ok() for one in document.exclude(path_regex=STREAMS).get_all_operations()]
    for operation in sorted(found, key=lambda one: one.method == "delete"):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _ask(service, operation.as_strategy(generation_mode=mode), known, num_requests)
        asked.add((operation.method, operation.path))
    assert len(asked) > 25


def _job(service):
    from web_search import SPEC

    return service.client("ada").post("/api/v1/jobs", json={"spec": SPEC}).json()["job_id"]


def _ask(service, strategy, known, num_requests):
    """Send requests as an admin, about what is there, and compare the answers."""
    headers = {"Authorization": f"Bearer {service.tokens['root']}"}

    @settings(
        max_examples=num_requests, deadline=None, database=None, suppress_health_check=HealthCheck
    )
    @given(case=strategy)
    def sent(case):
        case.path_parameters = {
            name: known.get(name, value) for name, value in case.path_parameters.items()
        }
        case.call_and_validate(headers=headers, checks=CHECKS)

    with suppress(Unsatisfiable):  # nothing can be wrong with a request that takes no values
        sent()
