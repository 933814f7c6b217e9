"""Talk to a running service: submit, watch, steer, and take results home.

    from service import Client

    client = Client("http://127.0.0.1:8700", token="iso_...")
    result = client.submit(spec).wait()         # a SearchResult, as run_search returns it
    study = client.submit("study.yaml").wait()  # a ScalingStudy, as ScalingStudy.run returns it

`service.AsyncClient` has the same methods as coroutines.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.client_wire import (
    LIVE,
    PointReader,
    Request,
    answer_of,
    connection_options,
    explained,
    file_request,
    job_action,
    jobs_request,
    live_request,
    log_request,
    study_of,
    submit_request,
)
from trainers.errors import ServiceError

if TYPE_CHECKING:
    from service.api import SearchResult
    from service.client_wire import Spec
    from service.scaling.study import ScalingStudy

POLL_S = 1.0


@dataclass(frozen=True)
class Job:
    """A job at the service; every call reads its present state."""

    job_id: str
    client: Client

    def status(self) -> dict[str, Any]:
        """Return state, place in the queue, reason, search and workers."""
        return self.client.status(self.job_id)

    def wait(
        self,
        *,
        out: str | Path | None = None,
        poll_s: float = POLL_S,
        on_status: Callable[[dict[str, Any]], None] | None = None,
    ) -> SearchResult | ScalingStudy:
        """Wait until the job ends, then fetch what it found: the same object as of a local run.

        Args:
            out: folder for its files; None: `runs/<search id>`.
            poll_s: seconds between looks.
            on_status: is given each status that was read.

        Raises:
            ServiceError: the job failed, was stopped or cancelled before it had a search.
            ScalingError: a study was stopped before it had a point.

        """
        status = self.status()
        while status["state"] in LIVE:
            if on_status is not None:
                on_status(status)
            time.sleep(poll_s)
            status = self.status()
        return self.client.result(status, out=out)

    def log(self, *, follow: bool = False) -> Iterator[str]:
        """Yield the log piece by piece; with `follow`, until the job has ended."""
        return self.client.log(self.job_id, follow=follow)

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield a study's points as they finish; see `Client.points`."""
        return self.client.points(self.job_id)

    def stop(self) -> dict[str, Any]:
        """Ask for the running epoch to be finished and saved; `resume` goes on."""
        return self.client.act(self.job_id, "stop")

    def resume(self) -> dict[str, Any]:
        """Go on where the last saved epoch was."""
        return self.client.act(self.job_id, "resume")

    def cancel(self) -> dict[str, Any]:
        """Take a job that has not begun out of the queue."""
        return self.client.act(self.job_id, "cancel")

    def extend(self, **more: Any) -> Job:
        """Add to what the job finished; return the new job.

        Args:
            more: `trials`, `epochs` or `space` of a search; `budgets_flops` or `sizes` of a study.

        """
        return Job(self.client.extend(self.job_id, **more)["job_id"], self.client)


class Client:
    """A connection to one service. Use it in a `with` block, or close it."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Name the service.

        Args:
            url: e.g. `http://127.0.0.1:8700`; None: ISOFLOP_URL, or that default.
            token: `iso_...`; None: ISOFLOP_TOKEN; a service without users needs none.

        """
        import httpx

        self._http = httpx.Client(**connection_options(url, token))

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, request: Request) -> Any:
        """Send one request and return its JSON.

        Raises:
            ServiceError: the service refused (its reason is the message), or does not answer.

        """
        with explained(self._http.base_url):
            return answer_of(self._http.request(**request))

    def submit(self, spec: Spec, **options: Any) -> Job:
        """Queue a search or study; options: priority, workers, webhook_url, idempotency_key."""
        return Job(self.request(submit_request(spec, **options))["job_id"], self)

    def job(self, job_id: str) -> Job:
        """Return a job by its id."""
        return Job(self.status(job_id)["job_id"], self)

    def jobs(self, **filters: Any) -> list[dict[str, Any]]:
        """Return jobs, newest first; filters: owner, state, project, limit."""
        items: list[dict[str, Any]] = self.request(jobs_request(**filters))["items"]
        return items

    def status(self, job_id: str) -> dict[str, Any]:
        """Return one job."""
        found: dict[str, Any] = self.request(jobs_request(job_id))
        return found

    def act(self, job_id: str, action: str) -> dict[str, Any]:
        """Stop, cancel or resume a job; return it."""
        found: dict[str, Any] = self.request(job_action(job_id, action))
        return found

    def extend(self, job_id: str, **more: Any) -> dict[str, Any]:
        """Queue a job that adds to what this one finished; return the new job."""
        found: dict[str, Any] = self.request(job_action(job_id, "extend", more))
        return found

    def delete_search(self, search_id: str) -> None:
        """Delete a search with its files; what it used stays booked."""
        self.request({"method": "DELETE", "url": f"searches/{search_id}"})

    def stop_trial(self, search_id: str, trial_id: int) -> None:
        """Stop one trial at its next border."""
        self.request({"method": "POST", "url": f"searches/{search_id}/trials/{trial_id}/stop"})

    def get(self, path: str, **params: Any) -> Any:
        """Read any address of the API, e.g. `get("searches/demo-1/trials", sort="round")`."""
        return self.request({"method": "GET", "url": path, "params": params})

    def log(self, job_id: str, *, follow: bool = False, offset: int = 0) -> Iterator[str]:
        """Yield a job's log; a connection that breaks is taken up again where it was."""
        while True:
            piece = self.request(log_request(job_id, offset))
            if piece["text"]:
                offset = piece["next_offset"]
                yield piece["text"]
            elif piece["ended"] or not follow:
                return
            else:
                time.sleep(POLL_S)

    def points(self, job_or_study: str) -> Iterator[dict[str, Any]]:
        """Yield a study's points as they finish, those so far first, until nothing works on it.

        Args:
            job_or_study: a job, whose study is waited for, or a study.

        Yields:
            Rows of `ScalingStudy.points.frame`: `trial_id`, `params`, `tokens`, `flops`, `loss`,
            `kwh`, `seed`, `budget_flops`, `size.<path>`, ...

        Raises:
            ServiceError: there is no such study, the job is a search's, or ended without one.

        """
        study_id = None if job_or_study.startswith("j-") else job_or_study
        while study_id is None:
            study_id = study_of(self.status(job_or_study))
            if study_id is None:
                time.sleep(POLL_S)
        reader = PointReader()
        while not reader.ended:
            with (
                explained(self._http.base_url),
                self._http.stream(**live_request(study_id)) as response,
            ):
                if response.is_error:
                    response.read()
                    answer_of(response)
                for line in response.iter_lines():
                    if (point := reader.feed(line)) is not None:
                        yield point
                    if reader.ended:
                        return
            time.sleep(POLL_S)  # the service ends a stream after some minutes

    def study(self, study_id: str, out: str | Path | None = None) -> ScalingStudy:
        """Return a study with the points trained so far, to be fitted here; it may still run.

        Args:
            study_id: the study.
            out: folder of its part of the ledger; None: `runs/<study id>`.

        Raises:
            ServiceError: there is no such study.
            ScalingError: no point has been trained yet.

        """
        from service.scaling.study import ScalingStudy

        folder = Path(out) if out is not None else Path("runs") / study_id
        return ScalingStudy.open(study_id, ledger=self._ledger_of(study_id, folder))

    def fetch(self, search_id: str, out: str | Path | None = None) -> SearchResult | ScalingStudy:
        """Copy files and ledger of a search or study; return it as a local run does."""
        from service.api import SearchResult

        folder = Path(out) if out is not None else Path("runs") / search_id
        folder.mkdir(parents=True, exist_ok=True)
        for artifact in self.get(f"searches/{search_id}/artifacts"):
            self._download(f"searches/{search_id}/artifacts/{artifact['name']}",
                           folder / Path(artifact["name"]).name)  # fmt: skip
        if self.get(f"searches/{search_id}")["kind"] == "study":
            return self.study(search_id, folder)
        return SearchResult(search_id, self._ledger_of(search_id, folder))

    def result(
        self, status: Mapping[str, Any], out: str | Path | None = None
    ) -> SearchResult | ScalingStudy:
        """Fetch the search or study of a job that has ended.

        Raises:
            ServiceError: the job failed, or ended before it had a search.

        """
        if status["state"] == "failed" or status["search_id"] is None:
            raise ServiceError(
                f"job {status['job_id']} is {status['state']}: {status['reason'] or 'see its log'}"
            )
        return self.fetch(status["search_id"], out)

    def _ledger_of(self, search_id: str, folder: Path) -> str:
        """Copy a search's part of the ledger into a folder; return its path."""
        from service.ledger.slices import settle_in

        folder.mkdir(parents=True, exist_ok=True)
        ledger = folder / "ledger.db"
        self._download(f"searches/{search_id}/ledger", ledger)
        settle_in(ledger, search_id, folder)
        return str(ledger)

    def _download(self, path: str, target: Path) -> None:
        partial = target.with_name(f".{target.name}.partial")
        with (
            explained(self._http.base_url),
            self._http.stream(**file_request(path)) as response,
            partial.open("wb") as file,
        ):
            if response.is_error:
                response.read()
                answer_of(response)
            for piece in response.iter_bytes():
                file.write(piece)
        partial.replace(target)
