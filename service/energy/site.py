"""Where the energy is used: carbon intensity, PUE and price. They belong to the host's site.

    ISOFLOP_COUNTRY         three-letter ISO code; without it CO2 is not computed
    ISOFLOP_PUE             facility energy per IT energy, >= 1; default: 1, assumed
    ISOFLOP_PRICE_PER_KWH   in the site's currency

Intensities are CodeCarbon's own data file: yearly averages of a country's production (Our World
in Data), not marginal and not by the hour.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from trainers.errors import SiteError, nearest

NOT_COMPUTED = "not computed: set ISOFLOP_COUNTRY"


@dataclass(frozen=True, kw_only=True)
class Site:
    """Where hosts stand. Everything but PUE may be unknown."""

    country: str | None = None
    """Three-letter ISO code."""
    country_name: str | None = None
    intensity_g_per_kwh: float | None = None
    """gCO2e per kWh of electricity: average, not marginal."""
    intensity_year: int | None = None
    intensity_source: str | None = None
    pue: float = 1.0
    pue_source: str = "assumed 1.0: set ISOFLOP_PUE"
    price_per_kwh: float | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Site:
        """Read the three ISOFLOP_* variables.

        Raises:
            SiteError: the country is no three-letter code of CodeCarbon's data (the nearest is
                named), PUE is below 1, or a value is no number.

        """
        environment = os.environ if environment is None else environment
        pue = _number(environment, "ISOFLOP_PUE", at_least=1.0)
        place: dict[str, Any] = {}
        asked = environment.get("ISOFLOP_COUNTRY", "").strip()
        if asked:
            place = _place(asked)
        if pue is not None:
            place |= {"pue": pue, "pue_source": "ISOFLOP_PUE"}
        price = _number(environment, "ISOFLOP_PRICE_PER_KWH", at_least=0.0)
        return cls(**place, price_per_kwh=price)

    def facility_kwh(self, kwh: float) -> float:
        """Return what the site takes from the grid for `kwh` used by its hosts."""
        return kwh * self.pue

    def co2e_kg(self, kwh: float) -> float | None:
        """Return kgCO2e of `kwh` used by hosts (PUE is applied here); None without a country."""
        if self.intensity_g_per_kwh is None:
            return None
        return self.facility_kwh(kwh) * self.intensity_g_per_kwh / 1000.0

    def cost(self, kwh: float) -> float | None:
        """Return the price of `kwh` used by hosts, PUE included; None without a price."""
        return None if self.price_per_kwh is None else self.facility_kwh(kwh) * self.price_per_kwh

    def require_country(self, budget: str = "kgco2e") -> None:
        """Refuse a budget in CO2 that could not be checked.

        Raises:
            SiteError: the country is unknown.

        """
        if self.intensity_g_per_kwh is None:
            raise SiteError(
                f"`budget.{budget}` needs to know the carbon intensity, but no country is set; "
                "set ISOFLOP_COUNTRY to a three-letter code, or use `budget.kwh`"
            )

    def describe(self) -> str:
        """Say in a sentence what figures of CO2 are based on."""
        pue = f"PUE {self.pue:g} ({self.pue_source})"
        if self.intensity_g_per_kwh is None:
            return f"CO2 {NOT_COMPUTED}; {pue}"
        return (
            f"{self.country_name} ({self.country}): {self.intensity_g_per_kwh:.0f} gCO2e/kWh, "
            f"average of {self.intensity_year}, {self.intensity_source}; {pue}"
        )

    def to_mapping(self) -> dict[str, Any]:
        """Return all fields, for records and reports."""
        return dict(self.__dict__)


def country_data() -> dict[str, dict[str, Any]]:
    """Return CodeCarbon's data by three-letter code (read as a file: importing it is slow).

    Raises:
        SiteError: CodeCarbon's data file is missing.

    """
    return _country_data()


@cache
def _country_data() -> dict[str, dict[str, Any]]:
    found = importlib.util.find_spec("codecarbon")
    for place in (found.submodule_search_locations or ()) if found else ():
        path = Path(place) / "data" / "private_infra" / "global_energy_mix.json"
        if path.exists():
            data = json.loads(path.read_text(encoding="utf-8"))
            return {code: row for code, row in data.items() if row.get("carbon_intensity")}
    raise SiteError(
        "carbon intensities come from CodeCarbon's data file, but global_energy_mix.json is not "
        "there; reinstall with `pip install --force-reinstall codecarbon`"
    )


def _place(asked: str) -> dict[str, Any]:
    data = country_data()
    if asked not in data:
        raise SiteError(
            "ISOFLOP_COUNTRY must be a three-letter ISO 3166 code that has a carbon intensity, "
            f"but got `{asked}`{_suggest(asked, data)}"
        )
    row = data[asked]
    return {
        "country": asked,
        "country_name": row["country_name"],
        "intensity_g_per_kwh": float(row["carbon_intensity"]),
        "intensity_year": int(row["year"]),
        "intensity_source": "Our World in Data, as shipped with CodeCarbon",
    }


def _suggest(asked: str, data: Mapping[str, Mapping[str, Any]]) -> str:
    """Find the code that was meant: in lower case, of two letters, a name, or misspelt."""
    if asked.upper() in data:
        return f"; did you mean `{asked.upper()}`?"
    code = _iso3(asked)
    if code in data:
        return f"; did you mean `{code}` ({data[code]['country_name']})?"
    names = {str(row["country_name"]).casefold(): code for code, row in data.items()}
    if len(asked) > 3:
        close = nearest(asked.casefold(), tuple(names))
        for name, code in names.items():
            if f"`{name}`" in close:
                return f"; did you mean `{code}` ({data[code]['country_name']})?"
    close = nearest(asked.upper(), tuple(data))
    return close if "did you mean" in close else "; e.g. DEU, FRA or USA"


def _iso3(asked: str) -> str:
    """Look a two-letter code or a name up in the ISO tables that CodeCarbon brings along."""
    if asked.upper() == "UK":
        return "GBR"
    try:
        import pycountry

        found = pycountry.countries.lookup(asked)
    except (ImportError, LookupError):
        return ""
    return str(found.alpha_3)


def _number(environment: Mapping[str, str], name: str, *, at_least: float) -> float | None:
    text = environment.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= at_least):
        raise SiteError(
            f"{name} must be a number >= {at_least:g}, but got `{text}`; "
            f"e.g. {name}={'1.2' if at_least else '0.30'}"
        )
    return value
