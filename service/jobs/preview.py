"""What a spec would do and what quota it would meet, shown before it is submitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from service.jobs.kinds import JobSpec, notes_of, plan_rows
from service.jobs.records import Quota


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a spec would do, before it is submitted."""

    name: str
    project: str
    workers: int
    rounds: tuple[Mapping[str, Any], ...]
    estimate: Mapping[str, Any] | None
    """Time, energy and FLOPs by round, where it was asked for."""
    quota: Mapping[str, float]
    used: Mapping[str, float]
    """Of the quota: jobs that run, workers that they may hold, kWh of this month."""
    position: int
    warnings: tuple[str, ...]

    @classmethod
    def of(
        cls,
        spec: JobSpec,
        *,
        workers: int,
        estimate: Mapping[str, Any] | None,
        quota: Quota,
        used: Mapping[str, float],
        position: int,
    ) -> Self:
        """Put together what a spec says and what the service knows."""
        return cls(
            name=spec.name,
            project=spec.project,
            workers=workers,
            rounds=tuple(plan_rows(spec)),
            estimate=estimate,
            quota=quota.to_mapping(),
            used=used,
            position=position,
            warnings=tuple(_warnings(spec, quota, used, workers)),
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def _warnings(spec: JobSpec, quota: Quota, used: Mapping[str, float], workers: int) -> list[str]:
    found = list(notes_of(spec))
    if quota.max_workers is not None and workers > quota.max_workers:
        found.append(f"it wants {workers} workers, and gets {quota.max_workers} at most")
    if quota.max_jobs is not None and used["max_jobs"] >= quota.max_jobs:
        found.append(f"it waits until one of your {quota.max_jobs} running jobs ends")
    if quota.kwh_per_month is not None and used["kwh_per_month"] >= quota.kwh_per_month:
        found.append(
            f"it waits for the next month: {used['kwh_per_month']:.3g} of "
            f"{quota.kwh_per_month:g} kWh are used"
        )
    return found
