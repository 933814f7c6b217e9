"""What this machine offers a search."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from service.energy import Site
from service.search.provenance import versions
from trainers.errors import SiteError


def findings() -> list[dict[str, str]]:
    """Return what was found and what follows from it, one mapping per matter."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    rapl = sorted(Path("/sys/class/powercap").glob("intel-rapl:*/energy_uj"))
    readable = [str(path) for path in rapl if os.access(path, os.R_OK)]
    rows = [
        ("machine", f"{platform.machine()}, {platform.system()} {platform.release()}", ""),
        ("cores", str(cores), "one worker per core by default"),
        (
            "GPUs",
            ", ".join(gpus) or "none visible to torch",
            "device: auto uses them" if gpus else "trials run on the processor",
        ),
        (
            "processor energy",
            f"{len(readable)} RAPL counters" if readable else "no readable RAPL counter",
            "measured" if readable else "estimated from load and a table of processors",
        ),
        _site(),
    ]
    found = [{"what": what, "found": text, "follows": follows} for what, text, follows in rows]
    for name, version in versions().items():
        found.append({"what": name, "found": version, "follows": ""})
    return found


def _site() -> tuple[str, str, str]:
    try:
        site = Site.from_environment()
    except SiteError as error:
        return "site", "misspelt", str(error)
    return "site", site.describe(), "set ISOFLOP_COUNTRY, ISOFLOP_PUE, ISOFLOP_PRICE_PER_KWH"
