"""A real server on loopback, in a thread of the test's process."""

import contextlib
import socket
import threading
from collections.abc import Iterator

import httpx
import uvicorn


@contextlib.contextmanager
def listening(app: object) -> Iterator[str]:
    """Serve an application on a free port; yield its address."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)


def events(response: httpx.Response) -> Iterator[tuple[str, str, str]]:
    """Read server-sent events as (name, id, data), as a browser would."""
    name, event_id, data = "", "", []
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("id: "):
            event_id = line.removeprefix("id: ")
        elif line.startswith("data: "):
            data.append(line.removeprefix("data: "))
        elif not line and data:
            yield name, event_id, "\n".join(data)
            name, data = "", []
