"""What a search cost: its own energy times PUE, carbon, the winner alone, and what was saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.report.facts import CHECK_ROLES, Facts
from service.report.numbers import duration, energy, mass, percent
from service.report.verdict import Answer

CLOSED = 1e-9
"""Accounts close when no more than this share of the node's energy is unaccounted for."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The cost block of a report. Energies are the search's own, times PUE."""

    own_kwh: float
    pue: float
    measured_share: float
    """Share of the energy that a counter measured; the rest is a model."""
    co2e_kg: float | None
    best_alone_kwh: float | None
    """The search's energy per trained winner: its share of the trials' active energy, of all."""
    saved_kwh: float
    """What the epochs that pruned trials did not train would have cost, by their own rate."""
    num_cut: int
    """Trials that ended before their horizon because they were worse."""
    residual: float
    """|node - sum of parts| / node."""
    seconds: float

    @property
    def closes(self) -> bool:
        """Whether the accounts close."""
        return abs(self.residual) <= CLOSED


def cost_of(facts: Facts, found: Answer | None) -> Cost | None:
    """Work out the cost; None where the search was not metered."""
    accounts, site = facts.accounts, facts.site
    if accounts is None or site is None:
        return None
    own = accounts.own_kwh * site.pue
    # Every trial carries overhead and idle in proportion to its active energy: the own view.
    scale = own / accounts.trials_kwh if accounts.trials_kwh > 0 else 0.0
    saved, num_cut = _saved_kwh(facts)
    alone = None
    if found is not None:
        known = [facts.trial_kwh.get(trial.trial_id, math.nan) for trial in found.best.trials]
        known = [kwh for kwh in known if math.isfinite(kwh)]
        alone = scale * math.fsum(known) / len(known) if known else None
    return Cost(
        own_kwh=own,
        pue=site.pue,
        measured_share=accounts.measured_share,
        co2e_kg=site.co2e_kg(accounts.own_kwh),
        best_alone_kwh=alone,
        saved_kwh=saved * scale,
        num_cut=num_cut,
        residual=accounts.residual,
        seconds=facts.search.seconds,
    )


def cost_lines(facts: Facts, cost: Cost | None) -> list[tuple[str, str, str]]:
    """Return (label, value, note) for each line of the cost block."""
    if cost is None:
        return [
            ("Energy", "not metered", facts.energy_problem),
            ("Time", duration(facts.search.seconds), "wall time"),
        ]
    lines = [
        ("Energy", energy(cost.own_kwh), _energy_note(cost)),
        ("CO₂e", *_co2e(facts, cost)),
        ("Time", duration(cost.seconds), "wall time, pauses left out"),
    ]
    if cost.best_alone_kwh is not None:
        share = cost.best_alone_kwh / cost.own_kwh if cost.own_kwh else 0.0
        lines.append(
            (
                "Best alone",
                energy(cost.best_alone_kwh),
                f"{percent(share)} of the search, to train the best config once",
            )
        )
    lines.append(("Stopping early", f"{energy(cost.saved_kwh)} saved", _saved_note(cost)))
    closes = "yes" if cost.closes else "no"
    lines.append(("Accounts close", closes, f"to {cost.residual:.0e} of the machine's energy"))
    return lines


def _energy_note(cost: Cost) -> str:
    if cost.measured_share <= 0:
        how = "estimated, nothing measured"
    elif cost.measured_share >= 1:
        how = "all measured"
    else:
        how = f"{percent(cost.measured_share)} measured, the rest estimated"
    return f"{how}; × PUE {cost.pue:g}"


def _co2e(facts: Facts, cost: Cost) -> tuple[str, str]:
    if cost.co2e_kg is None or facts.site is None:
        return "not computed", "set ISOFLOP_COUNTRY, e.g. FRA"
    return mass(cost.co2e_kg), facts.site.describe()


def _saved_note(cost: Cost) -> str:
    if cost.num_cut == 0:
        return "no trial was stopped early"
    trials = "trial" if cost.num_cut == 1 else "trials"
    return f"{cost.num_cut} {trials} ended before their full length"


def _saved_kwh(facts: Facts) -> tuple[float, int]:
    """Return the energy of the epochs not trained, and how many trials ended early."""
    saved, cut = 0.0, 0
    for trial in facts.trials:
        left = trial.horizon_epochs - trial.epochs_done
        ended = trial.state in ("pruned", "diverged") or trial.stopped_early
        if trial.role in CHECK_ROLES or not ended or left <= 0:
            continue
        cut += 1
        spent = facts.trial_kwh.get(trial.trial_id, 0.0)
        if trial.epochs_done > 0:
            saved += spent / trial.epochs_done * left
    return saved, cut
