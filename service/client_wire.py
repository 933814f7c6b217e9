"""What both clients send, and how they read what comes back."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.errors import ConfigError, ServiceError

if TYPE_CHECKING:
    import httpx

    from service.scaling.study_spec import StudySpec
    from service.search.spec import SearchSpec

    Spec = SearchSpec | StudySpec | Mapping[str, Any] | str | Path

DEFAULT_URL = "http://127.0.0.1:8700"
TIMEOUT_S = 60.0
LIVE = ("queued", "starting", "running", "stopping")
Request = Mapping[str, Any]
"""Keywords of `httpx.Client.request`; addresses are below /api/v1/."""


def connection_options(url: str | None, token: str | None) -> dict[str, Any]:
    """Return the keywords of an httpx client.

    Raises:
        ConfigError: if the address is no URL.

    """
    url = (url or os.environ.get("ISOFLOP_URL") or DEFAULT_URL).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(
            f"a service is named by its URL, but got {url!r}; e.g. {DEFAULT_URL}, in --url or "
            "ISOFLOP_URL"
        )
    token = token or os.environ.get("ISOFLOP_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {
        "base_url": f"{url}/api/v1/",
        "headers": headers,
        "timeout": TIMEOUT_S,
        "trust_env": False,
    }


def submit_request(
    spec: Spec,
    *,
    priority: str = "normal",
    workers: int | None = None,
    webhook_url: str | None = None,
    idempotency_key: str | None = None,
) -> Request:
    """Return the request that queues a spec: an object, a mapping, or the path of a YAML file."""
    body: dict[str, Any] = {"spec": _spec(spec), "priority": priority}
    body |= {"workers": workers, "webhook_url": webhook_url}
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    return {"method": "POST", "url": "jobs", "json": body, "headers": headers}


def jobs_request(job_id: str | None = None, **filters: Any) -> Request:
    """Return the request for one job, or for a page of them."""
    if job_id is not None:
        return {"method": "GET", "url": f"jobs/{job_id}"}
    params = {name: value for name, value in filters.items() if value is not None}
    return {"method": "GET", "url": "jobs", "params": params}


def job_action(job_id: str, action: str, body: Mapping[str, Any] | None = None) -> Request:
    """Return the request that steers a job."""
    request: dict[str, Any] = {"method": "POST", "url": f"jobs/{job_id}/{action}"}
    return request if body is None else {**request, "json": dict(body)}


def log_request(job_id: str, offset: int) -> Request:
    """Return the request for the log from a byte on."""
    return {"method": "GET", "url": f"jobs/{job_id}/log", "params": {"offset": offset}}


def live_request(study_id: str) -> Request:
    """Return the request for a study's server-sent events."""
    return {"method": "GET", "url": f"studies/{study_id}/live"}


def study_of(job: Mapping[str, Any]) -> str | None:
    """Return the study that a job works on; None: it has not begun.

    Raises:
        ServiceError: it is a search, or ended before it began.

    """
    if job["kind"] != "study":
        raise ServiceError(
            f"only a study has points, but job {job['job_id']} is a {job['kind']}; "
            "read its trials instead"
        )
    if job["search_id"] is None and job["state"] not in LIVE:
        raise ServiceError(
            f"job {job['job_id']} is {job['state']}: {job['reason'] or 'see its log'}"
        )
    study_id: str | None = job["search_id"]
    return study_id


class PointReader:
    """Reads points off server-sent events, line by line; those seen before are passed over."""

    def __init__(self) -> None:
        self.ended = False
        """Whether nothing works on the study any more."""
        self._seen: set[int] = set()
        self._event, self._data = "", ""

    def feed(self, line: str) -> dict[str, Any] | None:
        """Take one line; return the point that it completes, if any."""
        if line:
            field, _, value = line.partition(":")
            if field == "event":
                self._event = value.strip()
            elif field == "data":
                self._data += value.strip()
            return None
        event, data = self._event, self._data
        self._event = self._data = ""
        self.ended = self.ended or event == "end"
        if event != "point":
            return None
        point: dict[str, Any] = json.loads(data)
        if point["trial_id"] in self._seen:
            return None
        self._seen.add(point["trial_id"])
        return point


def file_request(path: str) -> Request:
    """Return the request for a file."""
    return {"method": "GET", "url": path}


def _spec(spec: Spec) -> Any:
    if isinstance(spec, Mapping):
        return dict(spec)
    if isinstance(spec, str | Path):
        try:
            return Path(spec).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"a spec must be a readable file, but {spec} is not ({error}); check the path"
            ) from None
    return {"kind": spec.kind, **spec.to_mapping()}


def answer_of(response: httpx.Response) -> Any:
    """Return the JSON of a success.

    Raises:
        ConfigError: what was sent breaks a rule; the message is the service's own.
        ServiceError: it refused for another reason.

    """
    if not response.is_error:
        return response.json() if response.content else None
    try:
        problem = response.json()
        code, detail = problem["code"], problem["detail"]
    except (ValueError, KeyError, TypeError):
        code, detail = "internal", f"the answer was {response.status_code} without a reason"
    raise (ConfigError if code == "invalid" else ServiceError)(detail)


@contextmanager
def explained(url: object) -> Iterator[None]:
    """Say which service does not answer.

    Raises:
        ServiceError: nothing answers, or not in time.

    """
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        raise ServiceError(
            f"no service answers at {str(url).removesuffix('/api/v1/')} "
            f"({type(error).__name__}: {error}); start one with `isoflop serve`, or name "
            "another with --url or ISOFLOP_URL"
        ) from None
