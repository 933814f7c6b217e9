"""Start a quiet local Ray, or join a running cluster, and leave it as it was found."""

from __future__ import annotations

import logging
import math
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.errors import ConfigError, WorkerError

DRIVER_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else Ray warns about its own future
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # else a result without a metric ends everything
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C is the caller's
    "TUNE_GLOBAL_CHECKPOINT_S": "100000",  # Tune's state is not needed: the ledger is the truth
    "TUNE_MAX_LEN_IDENTIFIER": "40",
}
GIB = 2**30
REACH_TIMEOUT_S = 10.0


def worker_environment(*, same_machine: bool) -> dict[str, str]:
    """Return the environment that worker processes start with.

    One thread per worker: more threads than free cores made a step 30 times slower. The
    allocator keeps large blocks, which saves a third of a step at width 512 (glibc only).
    On the same machine, what the driver can import (a model's factory) workers can import.
    """
    environment = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if sys.platform == "linux":
        environment |= {
            "MALLOC_MMAP_THRESHOLD_": str(4 * GIB),
            "MALLOC_TRIM_THRESHOLD_": str(4 * GIB),
            "MALLOC_TOP_PAD_": str(GIB // 4),
        }
    if same_machine:
        environment["PYTHONPATH"] = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return environment


@dataclass(frozen=True, kw_only=True)
class WorkerShape:
    """What each worker of a search occupies; one shape per search, or Tune deadlocks."""

    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.cpus <= 0 or self.gpus < 0:
            raise ConfigError(
                "a worker needs cpus > 0 and gpus >= 0, but got "
                f"cpus_per_worker {self.cpus} and gpus_per_worker {self.gpus}"
            )

    @property
    def bundle(self) -> dict[str, float]:
        """Ray's name for the shape."""
        return {"cpu": self.cpus, **({"gpu": self.gpus} if self.gpus else {})}

    def fits_on(self, resources: Mapping[str, float]) -> int:
        """Return how many such workers a node with these resources holds."""
        by_cpu = resources.get("CPU", 0.0) // self.cpus
        by_gpu = resources.get("GPU", 0.0) // self.gpus if self.gpus else by_cpu
        return int(min(by_cpu, by_gpu))


class Cluster:
    """A connection to Ray, ours or somebody else's."""

    def __init__(self, num_workers: int, shape: WorkerShape, address: str | None) -> None:
        """Connect; where nothing runs yet and no address is given, start Ray on this machine.

        Raises:
            ConfigError: if no node could ever hold one worker of this shape, or the address is
                one of Ray Client.
            WorkerError: if Ray does not start, or the address does not answer.

        """
        if address is not None and address.startswith("ray://"):
            raise ConfigError(
                "a search joins a cluster from one of its nodes, by `HOST:PORT` of the head or "
                f"`auto`, but got {address}, an address of Ray Client"
            )
        for name, value in DRIVER_ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        import ray
        from ray._private import auto_init_hook

        # Ray connects by itself on any call: one that comes after `close()` would leave a second
        # Ray behind.
        auto_init_hook.enable_auto_connect = False
        for name in ("ray.tune", "ray.air", "ray.train"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # failures are told as messages
        self._ray = ray
        self._scratch: Path | None = None
        self._joined = ray.is_initialized()
        if not self._joined:
            self._connect(num_workers, shape, address)
        try:
            self.num_workers = self._count_workers(num_workers, shape)
        except ConfigError:
            self.close()
            raise
        self.kind = "joined" if self._joined or address else "local"

    def close(self) -> None:
        """Disconnect; stop Ray and delete its logs where we started it."""
        if not self._joined:
            self._ray.shutdown()
            self._silence_raylet(False)
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _connect(self, num_workers: int, shape: WorkerShape, address: str | None) -> None:
        options: dict[str, Any] = {
            "address": address or "local",
            "log_to_driver": False,
            "logging_level": logging.CRITICAL,
            "runtime_env": {"env_vars": worker_environment(same_machine=address is None)},
        }
        if address is None:
            # Ray's sockets lie below: their paths must stay under 104 characters.
            parent = "/tmp" if os.path.isdir("/tmp") else None
            self._scratch = Path(tempfile.mkdtemp(prefix="isoflop-ray-", dir=parent))
            options |= {
                "num_cpus": math.ceil(num_workers * shape.cpus),
                "include_dashboard": False,
                "_temp_dir": str(self._scratch),
            }
        try:
            if address is not None:
                check_reachable(address)
            self._ray.init(**options)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            self.close()
            where = f"join Ray at {address}" if address else "start Ray on this machine"
            raise WorkerError(
                f"could not {where}: {str(error).splitlines()[0]}; "
                "check the address, or search with `--workers 1`, which needs no Ray"
            ) from error
        self._silence_raylet(True)

    def _silence_raylet(self, silent: bool) -> None:
        # Ray prints "A worker died ..." on the driver's stdout whatever its options say, which
        # would end up in the middle of `--json`. We report that worker ourselves.
        self._ray._private.worker._worker_logs_enabled = not silent

    def _count_workers(self, num_workers: int, shape: WorkerShape) -> int:
        known: list[dict[str, Any]] = self._ray.nodes()  # type: ignore[no-untyped-call]
        nodes = [node["Resources"] for node in known if node["Alive"]]
        fit = sum(shape.fits_on(resources) for resources in nodes)
        if fit == 0:
            largest = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
            raise ConfigError(
                f"each worker needs {shape.cpus:g} CPUs and {shape.gpus:g} GPUs, but the largest "
                f"of {len(nodes)} node(s) has {largest.get('CPU', 0):g} CPUs and "
                f"{largest.get('GPU', 0):g} GPUs; lower `resources.cpus_per_worker` or "
                "`resources.gpus_per_worker`"
            )
        return min(num_workers, fit)


def check_reachable(address: str) -> None:
    """Raise OSError where nothing listens: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=REACH_TIMEOUT_S).close()
