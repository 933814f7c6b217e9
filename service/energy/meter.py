"""Where the joules come from: CodeCarbon, as the meter of a whole host.

CodeCarbon's offline tracker is used in pull mode: one tracker per host, one thread that calls
`flush()`, and a handler that hands the totals over. A tracker per trial would be wrong in every
mode (machine mode counts the host once per trial), and its tasks lose energy between tasks.
Every argument is passed, so neither CODECARBON_* variables nor configuration files have a say.
"""

from __future__ import annotations

import importlib
import logging
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from service.energy.windows import JOULES_PER_KWH
from trainers.errors import MeterError

NEVER_S = 4_000_000
"""Interval of CodeCarbon's own measurements: 46 days, just below what Windows can wait for."""
SKIPPED_S = 0.06
"""CodeCarbon measures nothing within 50 ms of its last measurement."""
MAX_CREDIBLE_W = 5000.0
"""No host's CPUs and memory draw more; a counter that was reset looks like 262 kJ in a window."""
MEASURED_METHODS = {"rapl_package", "windows_emi", "powermetrics", "power_gadget", "pmic", "nvml"}
"""Methods that read a sensor; every other is a model, and its figures are estimates."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Joules of the host since the meter started."""

    cpu_j: float
    ram_j: float
    gpu_j: float


@dataclass(frozen=True, kw_only=True)
class MeterFacts:
    """What must be said beside every figure of this meter."""

    meter: str
    """Name and version, e.g. `codecarbon 3.3.2`."""
    methods: Mapping[str, str]
    """{"cpu": ..., "ram": ..., "gpu": ...}."""
    cpu_idle_w: float | None
    """Floor of the CPU model; None: not known, to be calibrated in a quiet window."""
    max_w: float | None
    """More than this is no credible reading; None: unknown."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Model, TDP and its source, memory's watts, GPU driver, ..."""


class Meter(Protocol):
    """Something that counts the joules of this host. Only one thread may use it."""

    def start(self) -> MeterFacts:
        """Begin counting; may take seconds. Raises MeterError if it does not count."""
        ...

    def read(self) -> Reading:
        """Return the joules since the start."""
        ...

    def stop(self) -> None:
        """End counting."""
        ...


class CodeCarbonMeter:
    """The default meter: `codecarbon.OfflineEmissionsTracker`, without network or telemetry.

    Args:
        gpu_indices: NVML indices of the GPUs to count; empty: none.
        ram_w: power of the memory in watts; None: CodeCarbon's guess from the memory's size.

    """

    def __init__(self, gpu_indices: tuple[int, ...] = (), ram_w: float | None = None) -> None:
        self._gpu_indices = gpu_indices
        self._ram_w = ram_w
        self._tracker: Any = None
        self._total: Any = None

    def start(self) -> MeterFacts:
        """Start the tracker (half a second the first time in a process) and check that it runs.

        Raises:
            MeterError: CodeCarbon did not start, has no CPU to measure, or sees no GPU where
                NVML sees some. It swallows its own errors, hence the checks.

        """
        with _quick_cpu_model():
            self._tracker = self._make_tracker()
            self._tracker.start()
        # The first flush loads tables for 0.3 s after it measured, and one right after it is
        # skipped: neither may happen to a reading whose time matters.
        self._tracker.flush()
        time.sleep(SKIPPED_S)
        if getattr(self._tracker, "_start_time", None) is None:
            raise MeterError(
                "the meter must run while a search runs, but CodeCarbon did not start; run "
                '`python -c "import codecarbon; codecarbon.OfflineEmissionsTracker().start()"` '
                "to see why"
            )
        return self._facts()

    def _make_tracker(self) -> Any:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.output_methods.base_output import BaseOutput

        # Its level is reset on import, and the constructor logs before it reads `log_level`.
        logging.getLogger("codecarbon").setLevel(logging.ERROR)
        meter = self

        class Handler(BaseOutput):
            def out(self, total: Any, delta: Any) -> None:
                meter._total = total

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations of options we do not set
            return OfflineEmissionsTracker(
                country_iso_code="USA",  # unused: intensity is forced, and CO2 is ours to compute
                country_2letter_iso_code=None,
                region=None,
                cloud_provider=None,
                cloud_region=None,
                force_carbon_intensity_g_co2e_kwh=0.0,
                electricitymaps_api_token="",  # None would look into the configuration again
                tracking_mode="machine",
                measure_power_secs=NEVER_S,
                api_call_interval=-1,
                api_endpoint="",
                api_key="",
                emissions_endpoint=False,
                experiment_id="isoflop",
                experiment_name="isoflop",
                project_name="isoflop",
                output_dir=tempfile.gettempdir(),
                output_file="unused.csv",
                output_methods=[],
                output_handlers=[Handler()],
                on_csv_write="append",
                logging_logger=None,
                prometheus_url="",
                metadata=None,
                gpu_ids=list(self._gpu_indices),
                allow_multiple_runs=True,  # its lock goes stale after a kill; the spool has ours
                log_level="error",
                logger_preamble="",
                force_cpu_power=None,
                force_ram_power=self._ram_w,
                force_mode_cpu_load=False,
                rapl_include_dram=False,
                rapl_prefer_psys=False,
                pue=1.0,  # PUE and water are applied by us, once
                wue=0.0,
            )

    def _facts(self) -> MeterFacts:
        from importlib.metadata import version

        by_class = {type(one).__name__: one for one in self._tracker._hardware}
        cpu = by_class.get("CPU")
        gpu = by_class.get("GPU")
        if self._gpu_indices and (gpu is None or not list(gpu.gpu_ids or ())):
            raise MeterError(
                f"every GPU of a host must be metered, but CodeCarbon monitors none of the "
                f"{len(self._gpu_indices)} that NVML shows; check that `nvidia-smi` works for "
                "this user"
            )
        conf = self._tracker._conf
        tdp_w: float | None = getattr(cpu, "_tdp", None)
        cpu_method = _cpu_method(cpu, by_class)
        modelled = cpu_method in ("cpu_load_tdp", "tdp_constant")
        ram = by_class.get("RAM")
        ram_w = _watts(ram) if ram is not None else None
        return MeterFacts(
            meter=f"codecarbon {version('codecarbon')}",
            methods={
                "cpu": cpu_method,
                "ram": "constant" if ram is not None else "pmic",
                "gpu": "nvml" if gpu is not None else "none",
            },
            cpu_idle_w=0.1 * tdp_w if tdp_w and cpu_method == "cpu_load_tdp" else None,
            max_w=MAX_CREDIBLE_W,
            details={
                "cpu_model": conf.get("cpu_model"),
                "cpu_count": conf.get("cpu_count"),
                # With a sensor, CodeCarbon's TDP is an unused placeholder.
                "tdp_w": tdp_w if modelled else None,
                "tdp_source": _tdp_source(cpu, conf) if modelled else "not used",
                "ram_w": ram_w,
                "ram_total_gb": conf.get("ram_total_size"),
                "gpu_model": conf.get("gpu_model"),
                "gpu_indices": list(self._gpu_indices),
            },
        )

    def read(self) -> Reading:
        """Return the joules so far.

        Raises:
            MeterError: CodeCarbon gave nothing (it swallows errors and returns None).

        """
        if self._tracker.flush() is None or self._total is None:
            raise MeterError(
                "the meter must answer each second, but CodeCarbon's flush() failed; the log of "
                "logger `codecarbon` says why"
            )
        return Reading(
            cpu_j=self._total.cpu_energy * JOULES_PER_KWH,
            ram_j=self._total.ram_energy * JOULES_PER_KWH,
            gpu_j=self._total.gpu_energy * JOULES_PER_KWH,
        )

    def stop(self) -> None:
        """Stop the tracker and its timers."""
        if self._tracker is not None:
            self._tracker.stop()


@contextmanager
def _quick_cpu_model() -> Iterator[None]:
    """Spare CodeCarbon the process that py-cpuinfo starts to learn the CPU's name.

    It costs up to 1 CPU second and most of the start's time, and on Linux it only reads the same
    line of /proc/cpuinfo. Where there is no such line, nothing is changed.
    """
    cpuinfo: Any = importlib.import_module("cpuinfo")  # it comes with CodeCarbon
    name = _cpu_model_name()
    original = cpuinfo.get_cpu_info
    if name:
        cpuinfo.get_cpu_info = lambda: {"brand_raw": name}
    try:
        yield
    finally:
        cpuinfo.get_cpu_info = original


def _cpu_model_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return ""


def _cpu_method(cpu: Any, by_class: Mapping[str, Any]) -> str:
    if "Raspberry" in by_class:
        return "pmic"
    if "AppleSiliconChip" in by_class:
        return "powermetrics"
    names = {
        "intel_rapl": "rapl_package",
        "windows_emi": "windows_emi",
        "intel_power_gadget": "power_gadget",
        "cpu_load": "cpu_load_tdp",
        "constant": "tdp_constant",
    }
    if cpu is None:
        raise MeterError(
            "the CPU of the host must be metered, but CodeCarbon found no way to do so; see its "
            "documentation on RAPL (Linux), PowerMetrics (macOS) and EMI (Windows)"
        )
    return names.get(cpu._mode, str(cpu._mode))


def _watts(ram: Any) -> float:
    return float(ram.total_power().W)


def _tdp_source(cpu: Any, conf: Mapping[str, Any]) -> str:
    """Say whether the TDP comes from CodeCarbon's table or from a guess per thread."""
    if cpu is None or not getattr(cpu, "_tdp", None):
        return "none"
    if getattr(cpu, "_is_generic_tdp", False):
        return "CodeCarbon's default"
    threads = conf.get("cpu_count") or 0
    if cpu._tdp == 4 * threads:
        return "unknown model: 4 W per thread"
    return "CodeCarbon's table of CPU models"
