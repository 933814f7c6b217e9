"""A cluster for tests: drivers that a test moves on by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from service.jobs.backend import ClusterView, Run
from trainers.errors import ClusterError


@dataclass
class FakeBackend:
    """A cluster that does what the test says, and remembers what it was asked."""

    python: str = "python"
    cpus: float = 4.0
    gpus: float = 0.0
    away: bool = False
    """Every call fails, as with a head that is down."""
    runs: dict[str, Run] = field(default_factory=dict)
    printed: dict[str, str] = field(default_factory=dict)
    started: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def start(self, submission_id: str, entrypoint: str, env: Mapping[str, str]) -> None:
        """Begin a run that stays pending until the test moves it on."""
        self._check()
        if submission_id not in self.runs:
            self.runs[submission_id] = Run(state="pending")
            self.started.append((submission_id, entrypoint, dict(env)))

    def status(self, submission_id: str) -> Run:
        """Return what the test has set."""
        self._check()
        return self.runs.get(submission_id, Run(state="unknown"))

    def stop(self, submission_id: str) -> None:
        """Remember the request, and end what runs."""
        self._check()
        self.stopped.append(submission_id)
        if self.status(submission_id).state in ("pending", "running"):
            self.move(submission_id, "stopped")

    def logs(self, submission_id: str) -> str:
        """Return what the test has let the run print."""
        self._check()
        return self.printed.get(submission_id, "")

    def list(self) -> Mapping[str, Run]:
        """Return all runs."""
        self._check()
        return dict(self.runs)

    def cluster(self) -> ClusterView:
        """Describe one node."""
        if self.away:
            return ClusterView(reachable=False, why_not="the head is down")
        return ClusterView(reachable=True, cpus=self.cpus, gpus=self.gpus, free_cpus=self.cpus)

    def close(self) -> None:
        """Hold nothing."""

    def move(self, submission_id: str, state: str, **fields: object) -> None:
        """Bring a run into another state."""
        known = self.runs.get(submission_id, Run(state="unknown"))
        self.runs[submission_id] = replace(known, state=state, **fields)  # type: ignore[arg-type]

    def forget(self) -> None:
        """Lose everything, as a cluster that was started anew."""
        self.runs.clear()
        self.printed.clear()

    def _check(self) -> None:
        if self.away:
            raise ClusterError("the cluster does not answer: the head is down; check that it runs")
