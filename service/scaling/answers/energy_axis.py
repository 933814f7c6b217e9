"""From FLOPs to kWh, kgCO2e and money: what compute costs at this study's efficiency."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np

from service.energy.site import Site
from service.scaling.points import Points
from trainers.errors import ConfigError, SiteError, nearest

Unit = Literal["flops", "kwh", "kgco2e", "currency"]
UNITS: tuple[str, ...] = get_args(Unit)
UNIT_NAMES = {"flops": "FLOP", "kwh": "kWh", "kgco2e": "kgCO2e", "currency": "currency unit"}


@dataclass(frozen=True, kw_only=True)
class EnergyAxis:
    """How much energy a FLOP takes, and what the site makes of it.

    The site's PUE is part of every figure: kWh are what the site takes from the grid.
    """

    kwh_per_flop: float | None = None
    """Of the hosts, without PUE; None: unknown."""
    source: str = "not known: the points carry no kWh"
    site: Site = field(default_factory=Site)

    def __post_init__(self) -> None:
        value = self.kwh_per_flop
        if value is not None and not (math.isfinite(value) and value > 0):
            raise ConfigError(
                f"kwh_per_flop must be a positive, finite number, but got {value!r}; e.g. at 1e12 "
                "FLOP/s and 100 W: 100 / 1e12 / 3.6e6 = 2.8e-17"
            )

    @classmethod
    def from_points(cls, points: Points, site: Site) -> EnergyAxis:
        """Take the median kWh per FLOP of the larger half of the budgets that were metered.

        Small runs pay mostly for starting, so they would overstate what larger ones take.
        """
        frame = points.frame
        known = frame[np.isfinite(frame["kwh"]) & (frame["kwh"] > 0)]
        if known.empty:
            return cls(site=site)
        large = known[known["flops"] >= known["flops"].median()]
        rates = (large["kwh"] / large["flops"]).to_numpy(float)
        return cls(
            kwh_per_flop=float(np.median(rates)),
            source=f"median of {len(large)} points, the larger half by FLOPs of {len(known)} with "
            f"kWh; between {rates.min():.2g} and {rates.max():.2g} kWh/FLOP",
            site=site,
        )

    def per_flop(self, unit: str) -> float:
        """Return how many `unit` one FLOP takes: 1 FLOP, or kWh, kgCO2e, currency units.

        Raises:
            ConfigError: there is no such unit, or the energy of a FLOP is unknown.
            SiteError: the country or the price is unknown.

        """
        if unit not in UNITS:
            raise ConfigError(f"`per` must be one of {', '.join(UNITS)}, but got "
                              f"{unit!r}{nearest(unit, UNITS)}")  # fmt: skip
        if unit == "flops":
            return 1.0
        if self.kwh_per_flop is None:
            raise ConfigError(
                f"returns per {UNIT_NAMES[unit]} need the energy of a FLOP, but it is "
                f"{self.source}; name a column of kWh, or give kwh_per_flop"
            )
        if unit == "kwh":
            return self.site.facility_kwh(self.kwh_per_flop)
        found = (self.site.co2e_kg if unit == "kgco2e" else self.site.cost)(self.kwh_per_flop)
        if found is None:
            what, how = (
                ("carbon intensity", "ISOFLOP_COUNTRY to a three-letter code")
                if unit == "kgco2e"
                else ("price of a kWh", "ISOFLOP_PRICE_PER_KWH")
            )
            raise SiteError(
                f"returns per {UNIT_NAMES[unit]} need the site's {what}, which is not known; "
                f"set {how}"
            )
        return found

    def known_units(self) -> tuple[str, ...]:
        """Return the units of which the cost of a FLOP is known, FLOP itself first."""
        units = ["flops"]
        if self.kwh_per_flop is not None:
            units.append("kwh")
            if self.site.intensity_g_per_kwh is not None:
                units.append("kgco2e")
            if self.site.price_per_kwh is not None:
                units.append("currency")
        return tuple(units)

    def kwh(self, flops: float) -> float | None:
        """Return the kWh that the site takes for `flops`; None where unknown."""
        return None if self.kwh_per_flop is None else self.site.facility_kwh(
            self.kwh_per_flop * flops
        )  # fmt: skip

    def describe(self) -> str:
        """Say in a sentence what figures of energy and CO2 are based on."""
        if self.kwh_per_flop is None:
            return f"energy of a FLOP: {self.source}"
        return f"{self.kwh_per_flop:.3g} kWh/FLOP ({self.source}); {self.site.describe()}"
