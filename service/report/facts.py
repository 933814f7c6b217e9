"""Everything a report says, read from the ledger once.

Pages, tables and pictures are functions of `Facts`; none of them asks the ledger again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from service.ledger import Ledger
from service.ledger.records import EventRecord, RoundRecord, SearchRecord, TrialRecord
from service.recipe.record import Recipe, Verdict
from service.search.objectives import Objective, parse_objectives
from trainers.trial import ExecutionPlan

if TYPE_CHECKING:
    import pandas as pd

    from service.energy import EnergyAccounts, Site

CHECK_ROLES = ("sweep", "overfit", "initial")
"""Trials of the recipe's checks: they cost energy, but are no candidates."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The finished trials of one configuration at one length, one per seed."""

    config_id: str
    trials: tuple[TrialRecord, ...]
    values: tuple[float, ...]
    """The primary objective, in the order of `trials`."""

    @property
    def first(self) -> TrialRecord:
        """The trial that stands for the configuration."""
        return self.trials[0]

    @property
    def mean(self) -> float:
        """Mean of the primary objective over seeds."""
        return math.fsum(self.values) / len(self.values)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed of each trial."""
        return tuple(trial.seed for trial in self.trials)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """One search as its ledger has it."""

    search: SearchRecord
    rounds: Sequence[RoundRecord]
    trials: Sequence[TrialRecord]
    events: Sequence[EventRecord]
    trials_frame: pd.DataFrame
    curves: pd.DataFrame
    """One row per trial and epoch."""
    accounts: EnergyAccounts | None
    """None where the search was not metered."""
    site: Site | None
    plans: Mapping[str, ExecutionPlan] = field(default_factory=dict)
    """How the trials of each signature were trained."""
    energy_problem: str = ""
    """Why there are no accounts or no site, or empty."""

    @cached_property
    def objectives(self) -> tuple[Objective, ...]:
        """The search's objectives; the first is the primary one."""
        return parse_objectives(self.search.spec.get("objectives") or _default_objective(self))

    @property
    def objective(self) -> Objective:
        """The primary objective."""
        return self.objectives[0]

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe's verdicts in the order they were reached."""
        return Recipe(tuple(Verdict.from_mapping(e.payload) for e in self.events_of("verdict")))

    def events_of(self, kind: str) -> list[EventRecord]:
        """Events of one kind, oldest first."""
        return [event for event in self.events if event.kind == kind]

    @cached_property
    def search_rounds(self) -> list[RoundRecord]:
        """Rounds that searched a space, in order."""
        return [r for r in self.rounds if r.round >= 0 and r.kind in ("search", "extension")]

    @cached_property
    def candidates(self) -> list[TrialRecord]:
        """Trials that a sampler proposed."""
        return [trial for trial in self.trials if trial.role == "search"]

    def of_role(self, role: str) -> list[TrialRecord]:
        """Trials of one role."""
        return [trial for trial in self.trials if trial.role == role]

    def value(self, trial: TrialRecord) -> float:
        """Return a trial's primary objective; NaN where it has none."""
        value = trial.metrics.get(self.objective.metric)
        return math.nan if value is None else float(value)

    def groups(self, trials: Iterable[TrialRecord]) -> list[Group]:
        """Gather complete trials with a finite value by configuration, best mean first."""
        gathered: dict[str, list[TrialRecord]] = {}
        for trial in trials:
            if trial.state == "complete" and math.isfinite(self.value(trial)):
                gathered.setdefault(trial.config_id, []).append(trial)
        groups = [
            Group(
                config_id=config_id,
                trials=tuple(members),
                values=tuple(self.value(trial) for trial in members),
            )
            for config_id, members in gathered.items()
        ]
        return sorted(groups, key=lambda g: (self.objective.cost(g.mean), g.first.trial_id))

    @cached_property
    def finalists(self) -> list[Group]:
        """Configurations of the last final re-training, best mean first."""
        finals = [trial for trial in self.trials if trial.role == "finalist"]
        last = max((trial.round for trial in finals), default=None)
        return self.groups(trial for trial in finals if trial.round == last)

    @cached_property
    def baseline(self) -> Group | None:
        """The configuration to beat, or None."""
        groups = self.groups(self.of_role("baseline"))
        return groups[0] if groups else None

    @cached_property
    def winner_event(self) -> Mapping[str, Any]:
        """What was written down about the last winner; empty before there is one."""
        events = self.events_of("winner")
        return events[-1].payload if events else {}

    @cached_property
    def best(self) -> Group | None:
        """The winner; before the finalists, the best trial at the longest length reached."""
        named = self.winner_event.get("config_id")
        for group in self.finalists:
            if group.config_id == named:
                return group
        if self.finalists:
            return self.finalists[0]
        longest = self.longest_epochs
        groups = self.groups(t for t in self.candidates if t.horizon_epochs == longest)
        return groups[0] if groups else self.baseline

    @cached_property
    def longest_epochs(self) -> int:
        """The longest horizon that some candidate finished; 0 before any did."""
        return max((t.horizon_epochs for t in self.candidates if t.state == "complete"), default=0)

    @cached_property
    def trial_kwh(self) -> dict[int, float]:
        """What rankings by energy use: active energy, and an estimate for time without a meter."""
        from service.energy import cost_kwh

        if self.accounts is None:
            return {}
        return cost_kwh(self.accounts.per_trial)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials by state, the recipe's checks left out."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            if trial.role not in CHECK_ROLES:
                counts[trial.state] = counts.get(trial.state, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def collect(
    ledger: Ledger,
    search_id: str,
    *,
    accounts: EnergyAccounts | None = None,
    site: Site | None = None,
    with_energy: bool = True,
) -> Facts:
    """Read one search.

    Args:
        ledger: the open ledger.
        search_id: which search.
        accounts: its energy; None: read from the ledger's windows.
        site: country, PUE and price; None: from the environment.
        with_energy: False leaves accounts and site out, which spares reading the energy rows.

    Raises:
        LedgerError: if there is no such search.
        SiteError: if the environment's country or PUE is misspelt.

    """
    search = ledger.search(search_id)
    problem = ""
    if with_energy:
        from service.energy import Site
        from service.energy import accounts as accounts_of

        site = site or Site.from_environment()
        if accounts is None and ledger.spans(search_id):
            accounts = accounts_of(ledger, search_id)
        if accounts is None or accounts.node_kwh <= 0:
            accounts, problem = None, "this search was not metered"
    return Facts(
        search=search,
        rounds=ledger.rounds(search_id),
        trials=ledger.trials(search_id),
        events=ledger.events(search_id),
        trials_frame=ledger.trials_frame(search_id),
        curves=ledger.curves_frame(search_id),
        accounts=accounts,
        site=site,
        plans=ledger.plans(search_id),
        energy_problem=problem,
    )


def _default_objective(facts: Facts) -> dict[str, str]:
    """Return what a spec without objectives means, as its trials' metrics show."""
    names = {name for trial in facts.trials for name in trial.metrics}
    return {"val_error" if "val_error" in names or not names else "val_loss": "minimize"}
