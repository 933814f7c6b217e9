"""Budgets end a search; they never pick trials.

A share of time and energy is held back for the finalists, so that a search whose budget runs
out still ends with a re-trained winner.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class BudgetKeeper:
    """Watch time, energy and CO2 against their limits.

    Attributes:
        seconds: limit of time since the search began, over all its sessions; None: none.
        kwh: limit of own energy (PUE included, as the report shows it); None: none.
        kgco2e: limit of emissions; None: none.
        spent_s: seconds of earlier sessions.
        pue: the site's power usage effectiveness.
        co2e_kg: turns kWh into kilograms, or gives None where the country is not known.
        clock: time.monotonic, or a fake in tests.

    """

    seconds: float | None = None
    kwh: float | None = None
    kgco2e: float | None = None
    spent_s: float = 0.0
    pue: float = 1.0
    co2e_kg: Callable[[float], float | None] = lambda _kwh: None
    clock: Callable[[], float] = time.monotonic
    reserve: float = 0.0
    """Share of every limit that is held back for the finalists, in [0, 1)."""
    _started_s: float = field(init=False)
    _paused_s: float = field(init=False, default=0.0)
    _paused_since_s: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._started_s = self.clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the search began, over all its sessions, without pauses."""
        until_s = self.clock() if self._paused_since_s is None else self._paused_since_s
        return self.spent_s + until_s - self._started_s - self._paused_s

    def pause(self, paused: bool) -> None:
        """Leave out the time from now on, or count it again; repeating it changes nothing."""
        if paused and self._paused_since_s is None:
            self._paused_since_s = self.clock()
        elif not paused and self._paused_since_s is not None:
            self._paused_s += self.clock() - self._paused_since_s
            self._paused_since_s = None

    @property
    def limits_energy(self) -> bool:
        """Whether what is spent depends on the energy used."""
        return self.kwh is not None or self.kgco2e is not None

    def exhausted(self, own_kwh: float) -> str:
        """Return which limit is reached and by how much, or an empty string."""
        for name, limit, spent, unit in (
            ("time", self.seconds, self.elapsed_s, "s"),
            ("energy", self.kwh, own_kwh * self.pue, "kWh"),
            ("CO2", self.kgco2e, self.co2e_kg(own_kwh) or 0.0, "kgCO2e"),
        ):
            if limit is not None and spent >= limit * (1 - self.reserve):
                held = f", {self.reserve:.0%} held back for the finalists" if self.reserve else ""
                return f"the {name} budget is used up: {spent:.4g} of {limit:.4g} {unit}{held}"
        return ""
