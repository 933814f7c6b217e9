"""Ray's Jobs API as the service's cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from service.jobs.backend import ClusterView, NodeView, Run, RunState
from trainers.errors import ClusterError

REQUEST_TIMEOUT_S = 20.0
"""Ray's client waits for ever: a head that hangs must not hang the service."""
OVERRIDING = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")
"""Ray prefers these to the address that it is given."""
_STATES: Mapping[str, RunState] = {
    "PENDING": "pending",
    "RUNNING": "running",
    "SUCCEEDED": "succeeded",
    "FAILED": "failed",
    "STOPPED": "stopped",
}


class RayBackend:
    """A Ray cluster, by its Jobs API.

    It connects at the first call and again after a failure, so that the service may start before
    its cluster.
    """

    def __init__(self, address: str, *, token: str | None = None, python: str = "python") -> None:
        """Remember where the cluster is; nothing is asked yet.

        Args:
            address: URL of the dashboard, e.g. `http://ray-head:8265`.
            token: the cluster's token, where it runs in token mode.
            python: the interpreter that runs drivers there.

        """
        for name in OVERRIDING:
            os.environ.pop(name, None)
        self.python = python
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._client: Any = None

    def start(self, submission_id: str, entrypoint: str, env: Mapping[str, str]) -> None:
        """Submit a job under our own id, unless the cluster has it already.

        Ray answers a repeated id with a traceback; it is asked first, and once more after a
        failure, because the first request may have arrived though its answer did not.
        """
        if self.status(submission_id).state != "unknown":
            return
        try:
            with self._asking() as client:
                client.submit_job(
                    entrypoint=entrypoint,
                    submission_id=submission_id,
                    runtime_env={"env_vars": dict(env)},
                )
        except ClusterError:
            if self.status(submission_id).state == "unknown":
                raise

    def status(self, submission_id: str) -> Run:
        """Ask for one job."""
        with self._asking() as client:
            answer = client._do_request("GET", f"/api/jobs/{submission_id}")
            if answer.status_code == 404:
                return Run(state="unknown")
            _check(answer)
            return _run_of(answer.json())

    def stop(self, submission_id: str) -> None:
        """Ask Ray to end a job."""
        with self._asking() as client:
            answer = client._do_request("POST", f"/api/jobs/{submission_id}/stop")
            if answer.status_code != 404:
                _check(answer)

    def logs(self, submission_id: str) -> str:
        """Return the whole log, of which the manager keeps what is new."""
        with self._asking() as client:
            answer = client._do_request("GET", f"/api/jobs/{submission_id}/logs")
            if answer.status_code == 404:
                return ""
            _check(answer)
            return str(answer.json().get("logs") or "")

    def list(self) -> Mapping[str, Run]:
        """Return all submitted jobs."""
        with self._asking() as client:
            answer = client._do_request("GET", "/api/jobs/")
            _check(answer)
            jobs = answer.json()
        return {job["submission_id"]: _run_of(job) for job in jobs if job.get("submission_id")}

    def cluster(self) -> ClusterView:
        """Ask for nodes and their resources."""
        try:
            with self._asking() as client:
                answer = client._do_request("GET", "/api/v0/nodes?detail=1&limit=1000")
                _check(answer)
                listed = answer.json()["data"]["result"]["result"]
                free = _free(client)
        except ClusterError as error:
            return ClusterView(reachable=False, why_not=str(error))
        nodes = tuple(_node_of(node) for node in listed)
        alive = [node for node in nodes if node.alive]
        cpus, gpus = sum(node.cpus for node in alive), sum(node.gpus for node in alive)
        return ClusterView(
            reachable=True,
            nodes=nodes,
            cpus=cpus,
            gpus=gpus,
            free_cpus=free.get("CPU", cpus),
            free_gpus=free.get("GPU", gpus),
        )

    def close(self) -> None:
        """Leave the cluster as it is: it is not ours."""

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """Yield a client; what goes wrong becomes a ClusterError of one line, no traceback."""
        try:
            if self._client is None:
                self._client = _client(self._address, self._headers)
            yield self._client
        except ClusterError:
            raise
        except Exception as error:  # the client raises RuntimeError, requests' and its own errors
            self._client = None
            lines = str(error).strip().splitlines() or [type(error).__name__]
            said = lines[-1] if "Traceback" in lines[0] else lines[0]
            raise ClusterError(
                f"the cluster at {self._address} does not answer as it should: {said[:300]}; "
                "check that its head runs, and the token"
            ) from error


def _client(address: str, headers: Mapping[str, str]) -> Any:
    from ray.job_submission import JobSubmissionClient

    class Client(JobSubmissionClient):
        def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
            return super()._do_request(method, endpoint, timeout=REQUEST_TIMEOUT_S, **options)

    return Client(address, headers=dict(headers))


def _check(answer: Any) -> None:
    """Raise for an answer that is no success; Ray's 500 carries a traceback, of which one line."""
    if answer.status_code != 200:
        lines = str(answer.text).strip().splitlines() or ["no reason given"]
        raise ClusterError(
            f"the cluster refused a request (status {answer.status_code}): {lines[-1][:300]}"
        )


def _run_of(job: Mapping[str, Any]) -> Run:
    message = str(job.get("message") or "").strip().splitlines()
    return Run(
        state=_STATES.get(str(job["status"]), "unknown"),
        message=message[0][:500] if message else "",
        exit_code=job.get("driver_exit_code"),
    )


def _node_of(node: Mapping[str, Any]) -> NodeView:
    resources = node.get("resources_total") or {}
    return NodeView(
        node_id=str(node["node_id"]),
        host=str(node.get("node_name") or node.get("node_ip")),
        alive=node.get("state") == "ALIVE",
        is_head=bool(node.get("is_head_node")),
        cpus=float(resources.get("CPU", 0.0)),
        gpus=float(resources.get("GPU", 0.0)),
        memory_bytes=float(resources.get("memory", 0.0)),
    )


def _free(client: Any) -> dict[str, float]:
    """Return what no worker holds; empty where the cluster does not report it yet."""
    answer = client._do_request("GET", "/api/cluster_status")
    _check(answer)
    status = answer.json()["data"].get("clusterStatus") or {}
    usage = (status.get("loadMetricsReport") or {}).get("usage") or {}
    return {name: total - used for name, (used, total) in usage.items()}
