"""Which factor holds for a host at a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from service.energy.site import Site
from service.ledger.book_records import Basis, Factor


@dataclass(frozen=True)
class FactorBook:
    """All factors that are known, the host's environment last."""

    factors: Sequence[Factor]
    environment: Site = field(default_factory=Site)
    """Where no dated factor says anything: ISOFLOP_COUNTRY and ISOFLOP_PUE of who asks."""

    def site_of(self, host: str) -> str:
        """Return the name of the site that a host stands at."""
        for factor in self.factors:
            if fnmatchcase(host, factor.hosts):
                return factor.site
        return self.environment.country or "unknown"

    def value(self, host: str, basis: Basis, unix_s: float) -> tuple[float | None, str]:
        """Return a factor's value and its source; None where nobody gave one."""
        for factor in self.factors:
            if factor.covers(host, basis, unix_s):
                return factor.value, f"{factor.site} {basis}: {factor.source}"
        if basis == "pue":
            return self.environment.pue, f"PUE {self.environment.pue_source}"
        if basis == "location" and self.environment.intensity_g_per_kwh is not None:
            return self.environment.intensity_g_per_kwh, self.environment.describe()
        return None, ""
