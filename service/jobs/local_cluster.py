"""A Ray head for the service alone: on loopback, behind a token, gone when the service is.

`python -m service.jobs.local_cluster FOLDER ...` is the keeper: a small process that starts the
head and ends it when its standard input closes. That happens however the service ends, so that a
killed service leaves no Ray behind.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from service.jobs.ray_backend import OVERRIDING, RayBackend
from trainers.errors import ClusterError

RAY_WORKER_PORTS = range(10002, 20000)
"""Ray gives these to its workers; `ray start` fails on a port of its own among them."""
STOP_WAIT_S = 120
"""How long Ray waits between SIGTERM and SIGKILL for a driver: its own 3 s cut epochs off."""
START_TIMEOUT_S = 90.0
END_TIMEOUT_S = 20.0


class LocalBackend(RayBackend):
    """A backend with a head of its own, which `close()` ends."""

    def __init__(self, *, cpus: int | None = None) -> None:
        """Start a head and wait until it answers.

        Args:
            cpus: workers that it holds; None: one per core.

        Raises:
            ClusterError: if it does not come up; the message holds its last words.

        """
        # Ray's sockets lie below: their paths must stay under 104 characters.
        parent = "/tmp" if os.path.isdir("/tmp") else None
        self._folder = Path(tempfile.mkdtemp(prefix="isoflop-head-", dir=parent))
        token = secrets.token_hex(32)
        token_file = self._folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(token, encoding="ascii")
        ports = free_ports(5)
        super().__init__(f"http://127.0.0.1:{ports[0]}", token=token, python=sys.executable)
        self._keeper = subprocess.Popen(
            [sys.executable, "-m", "service.jobs.local_cluster", str(self._folder),
             str(cpus or os.cpu_count() or 1), *map(str, ports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the service's
            env=_environment(token_file),
        )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the head and everything that runs on it, and delete its folder. Idempotent."""
        if self._keeper.stdin is not None:
            self._keeper.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._keeper.wait(2 * END_TIMEOUT_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while self._keeper.poll() is None and time.monotonic() < deadline_s:
            if self.cluster().cpus > 0:
                return
            time.sleep(0.3)
        log = self._folder / "head.log"
        words = log.read_text(errors="replace")[-500:] if log.exists() else "nothing was said"
        raise ClusterError(
            f"a Ray head of our own did not come up within {START_TIMEOUT_S:.0f} s: {words.strip()}"
            "; start one yourself with `ray start --head` and give its `--address`"
        )


def free_ports(num: int) -> list[int]:
    """Return free ports of this machine that Ray does not give to its workers."""
    found: list[int] = []
    with contextlib.ExitStack() as held:
        while len(found) < num:
            probe = held.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port not in RAY_WORKER_PORTS:
                found.append(port)
    return found


def _environment(token_file: Path) -> dict[str, str]:
    """Return the head's environment: token mode said outright, whatever this machine has set."""
    inherited = {name: value for name, value in os.environ.items() if name not in OVERRIDING}
    roots = [path or os.getcwd() for path in sys.path]
    return inherited | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join(roots),  # what the service can import drivers can
    }


def keep(arguments: Sequence[str]) -> int:
    """Start a head, wait until standard input closes or the head ends, end it and tidy up."""
    parser = argparse.ArgumentParser(description="Keep a Ray head while standard input is open.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("cpus")
    parser.add_argument("ports", nargs=5)
    options = parser.parse_args(arguments)
    dashboard, gcs, client, agent, metrics = options.ports
    command = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block",
        "--disable-usage-stats", "--num-cpus", options.cpus, "--port", gcs,
        "--node-ip-address", "127.0.0.1", "--temp-dir", str(options.folder / "ray"),
        "--dashboard-host", "127.0.0.1", "--dashboard-port", dashboard,
        "--ray-client-server-port", client, "--dashboard-agent-listen-port", agent,
        "--metrics-export-port", metrics,
    ]  # fmt: skip
    with (options.folder / "head.log").open("wb") as log:
        head = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    os.set_blocking(sys.stdin.fileno(), False)
    while head.poll() is None and sys.stdin.buffer.read(1) is None:
        time.sleep(0.2)  # None: open and silent; b"": closed
    if head.poll() is not None:
        return 1  # by itself: the service still has to read why
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(END_TIMEOUT_S)
        ended = True
    except subprocess.TimeoutExpired:
        ended = False
    shutil.rmtree(options.folder, ignore_errors=True)  # a killed service cannot do it
    if not ended:
        os.killpg(0, signal.SIGKILL)  # ours alone: the keeper leads a session of its own
    return 0


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
