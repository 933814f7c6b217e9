"""Talk to a running service from coroutines: see `service.client.Client`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from service.client import POLL_S, Client
from service.client_wire import (
    LIVE,
    PointReader,
    Request,
    answer_of,
    connection_options,
    explained,
    job_action,
    jobs_request,
    live_request,
    log_request,
    study_of,
    submit_request,
)

if TYPE_CHECKING:
    import httpx

    from service.api import SearchResult
    from service.client_wire import Spec
    from service.scaling.study import ScalingStudy

T = TypeVar("T")


class AsyncClient:
    """`Client`, as coroutines."""

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        """Name the service, as `Client` does."""
        import httpx

        self._options = connection_options(url, token)
        self._http: httpx.AsyncClient = httpx.AsyncClient(**self._options)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def request(self, request: Request) -> Any:
        """Send one request and return its JSON, as `Client.request` does."""
        with explained(self._http.base_url):
            return answer_of(await self._http.request(**request))

    async def submit(self, spec: Spec, **options: Any) -> str:
        """Queue a search or study and return the job's id."""
        job_id: str = (await self.request(submit_request(spec, **options)))["job_id"]
        return job_id

    async def jobs(self, **filters: Any) -> list[dict[str, Any]]:
        """Return jobs, newest first."""
        items: list[dict[str, Any]] = (await self.request(jobs_request(**filters)))["items"]
        return items

    async def status(self, job_id: str) -> dict[str, Any]:
        """Return one job."""
        found: dict[str, Any] = await self.request(jobs_request(job_id))
        return found

    async def act(self, job_id: str, action: str) -> dict[str, Any]:
        """Stop, cancel or resume a job; return it."""
        found: dict[str, Any] = await self.request(job_action(job_id, action))
        return found

    async def extend(self, job_id: str, **more: Any) -> dict[str, Any]:
        """Queue a job that adds to what this one finished; return the new job."""
        found: dict[str, Any] = await self.request(job_action(job_id, "extend", more))
        return found

    async def get(self, path: str, **params: Any) -> Any:
        """Read any address of the API."""
        return await self.request({"method": "GET", "url": path, "params": params})

    async def log(self, job_id: str, *, follow: bool = False) -> AsyncIterator[str]:
        """Yield a job's log, with `follow` until the job has ended."""
        offset = 0
        while True:
            piece = await self.request(log_request(job_id, offset))
            if piece["text"]:
                offset = piece["next_offset"]
                yield piece["text"]
            elif piece["ended"] or not follow:
                return
            else:
                await asyncio.sleep(POLL_S)

    async def points(self, job_or_study: str) -> AsyncIterator[dict[str, Any]]:
        """Yield a study's points as they finish, as `Client.points` does."""
        study_id = None if job_or_study.startswith("j-") else job_or_study
        while study_id is None:
            study_id = study_of(await self.status(job_or_study))
            if study_id is None:
                await asyncio.sleep(POLL_S)
        reader = PointReader()
        while not reader.ended:
            with explained(self._http.base_url):
                async with self._http.stream(**live_request(study_id)) as response:
                    if response.is_error:
                        await response.aread()
                        answer_of(response)
                    async for line in response.aiter_lines():
                        if (point := reader.feed(line)) is not None:
                            yield point
                        if reader.ended:
                            return
            await asyncio.sleep(POLL_S)

    async def study(self, study_id: str, out: str | Path | None = None) -> ScalingStudy:
        """Return a study with the points trained so far, as `Client.study` does."""
        return await asyncio.to_thread(self._in_turn, lambda client: client.study(study_id, out))

    async def wait(
        self, job_id: str, *, out: str | Path | None = None
    ) -> SearchResult | ScalingStudy:
        """Wait until the job ends, then fetch its search or study."""
        status = await self.status(job_id)
        while status["state"] in LIVE:
            await asyncio.sleep(POLL_S)
            status = await self.status(job_id)
        return await asyncio.to_thread(self._in_turn, lambda client: client.result(status, out))

    def _in_turn(self, ask: Callable[[Client], T]) -> T:
        """Ask the same service with a client that waits; files need no coroutines."""
        headers = self._options["headers"]
        token = headers.get("Authorization", "").removeprefix("Bearer ") or None
        url = str(self._options["base_url"]).removesuffix("/api/v1/")
        with Client(url, token) as client:
            return ask(client)
