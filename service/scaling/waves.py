"""Which trials a study needs next: a function of its spec and of what the ledger holds.

    tuning     each group at its tuned budgets, wave after wave; see `tuning`
    points     every group at every budget with `seeds.default` seeds; forked runs' trunks first
    minima     more seeds for the best size of each budget and its neighbours
    verify     what was predicted, at its budget

Starting, resuming and extending are the same question, so nothing that is there runs again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces import Params
from service.ledger.records import TrialRecord
from service.scaling.facts import NOT_DONE, STUDY, facts_of, group_key, is_tuning, key_of
from service.scaling.groups import Group
from service.scaling.lengths import fork_epoch, updates_per_epoch
from service.scaling.smoothing import Smoothing, middle_flops, smoothing_of
from service.scaling.study_spec import StudySpec
from service.scaling.tuning import Tried, at_edge, best_of, next_trials, tried_of, value_of
from service.search.context import SHARED_EPOCHS
from service.search.samplers import Told, ask
from service.search.seeds import derived_seed
from trainers.config import TrialConfig

VERIFIED_TUNING_SHARE = 0.1
"""Of the budget to verify, for tuning a size that has no other budget."""


@dataclass(frozen=True, kw_only=True)
class NewTrial:
    """A trial that a study needs."""

    group: Group
    purpose: str
    """tuning, point or verification."""
    budget_flops: float
    config: TrialConfig
    params: Params
    """What was tuned."""
    seed: int
    attrs: Mapping[str, Any] = field(default_factory=dict)
    """Written beside it, over the group's facts."""
    sampler_attrs: Mapping[str, Any] = field(default_factory=dict)
    parent_trial: int | None = None
    """The run whose stable part it goes on from."""

    def all_attrs(self) -> dict[str, Any]:
        """Return everything that is written beside the trial."""
        facts = {
            **self.group.facts(),
            "purpose": self.purpose,
            "budget_flops": self.budget_flops,
            **self.attrs,
        }
        return {**self.sampler_attrs, STUDY: facts}


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Trials that can be trained side by side, and why they are needed."""

    name: str
    why: str
    trials: Sequence[NewTrial]
    sampler: str = "given"


class StudyState:
    """A study's groups and the trials that the ledger holds of it."""

    def __init__(
        self,
        spec: StudySpec,
        groups: Sequence[Group],
        trials: Iterable[TrialRecord],
        seed: int | None = None,
    ) -> None:
        self.spec = spec
        self.groups = groups
        self.seed = spec.seed if seed is None else seed
        recorded = list(trials)
        self.trials = [trial for trial in recorded if trial.state not in NOT_DONE]
        self._tuned_at: dict[str, set[float]] = {}
        for trial in filter(is_tuning, recorded):
            self._tuned_at.setdefault(key_of(trial), set()).add(facts_of(trial)["budget_flops"])
        self._by_group: dict[str, list[TrialRecord]] = {}
        for trial in self.trials:
            self._by_group.setdefault(key_of(trial), []).append(trial)
        self._known = {(trial.config_id, trial.seed): trial for trial in self.trials}
        self._smoothings: dict[str, Smoothing | None] = {}

    def next_wave(self) -> Wave | None:
        """Return the next trials, or None where nothing is missing.

        Every recorded trial must have ended.
        """
        for make in (self._tuning, self._trunks, self._points, self._minima):
            wave = make()
            if wave is not None and wave.trials:
                return wave
        return None

    # --- tuning --------------------------------------------------------------------------------

    def tuned_budgets(self, group: Group) -> list[float]:
        """Return the budgets at which a group is tuned."""
        tune, budgets = self.spec.tune, group.budgets
        if tune is None:
            return []
        smoothing = None if group.planned else self._smoothing(group)
        if smoothing is not None and smoothing.law is not None:
            return []  # a size made to verify: the law says what its tuning would cost compute for
        if not budgets:  # a size made to verify, and too large for any budget of the study
            return [VERIFIED_TUNING_SHARE * budget for budget in group.verified[:1]]
        if tune.per == "point":
            return list(budgets)
        num = min(tune.budgets, len(budgets))
        known = self._tuned_at.get(group.key)
        places = [round(i * (len(budgets) - 1) / max(num, 2)) for i in range(num)]
        return sorted(known or {budgets[place] for place in places})

    def tried(self, group: Group, budget: float) -> list[Tried]:
        """Return what was tried at one budget."""
        return tried_of(self._tuning_trials(group, budget), self.spec.metric)

    def _tuning_trials(self, group: Group, budget: float) -> list[TrialRecord]:
        return [
            trial
            for trial in self._of(group)
            if is_tuning(trial) and facts_of(trial)["budget_flops"] == budget
        ]

    def _tuning(self) -> Wave | None:
        found: list[NewTrial] = []
        reasons: dict[str, None] = {}
        tune = self.spec.tune
        for group in self.groups if tune is not None else ():
            for budget in self.tuned_budgets(group):
                assert tune is not None
                tried = self.tried(group, budget)
                wanted = next_trials(tune, tried)
                if wanted is None:
                    continue
                reasons[wanted.why] = None
                asked = ask(
                    tune.sampler,
                    wanted.space,
                    self._told(group, budget),
                    wanted.num,
                    derived_seed(self.seed, f"tuning {group.key}"),
                    round_index=wanted.wave,
                )
                found += [
                    self._trial(
                        group,
                        budget,
                        dict(proposal.params),
                        purpose="tuning",
                        attrs={"tuning_wave": wanted.wave},
                        sampler_attrs=proposal.attrs,
                    )
                    for proposal in asked
                ]
        sampler = tune.sampler if tune is not None else "given"
        return Wave(name="tuning", why="; ".join(reasons), trials=found, sampler=sampler)

    def _told(self, group: Group, budget: float) -> list[Told]:
        return [
            Told(
                number=trial.trial_id,
                params=dict(trial.params),
                state="running",
                attrs={k: v for k, v in trial.sampler_attrs.items() if k != STUDY},
            )
            for trial in self._tuning_trials(group, budget)
        ]

    def tuned(self, group: Group, budget: float) -> tuple[Params, dict[str, Any]] | None:
        """Return the values for a group at a budget, and where they come from.

        They are those of the best trial at the tuned budget that is nearest in ratio, or smoothed
        (`tune.use`). None where every trial there failed.
        """
        if self.spec.tune is None:
            return {}, {}
        budgets = self.tuned_budgets(group)
        if not budgets:
            value = self._smoothed(group, budget, math.nan)
            return None if value is None else (value, {"tuned_at_flops": None, "edges": {}})
        nearest = min(budgets, key=lambda tuned: abs(math.log(tuned / budget)))
        tried = self.tried(group, nearest)
        if not tried or not math.isfinite(best_of(tried).value):
            return None
        attrs = {"tuned_at_flops": nearest, "edges": at_edge(self.spec.tune.space, tried)}
        return self._smoothed(group, budget, nearest) or best_of(tried).params, attrs

    def _smoothed(self, group: Group, budget: float, tuned_flops: float) -> Params | None:
        """Return smoothed values, or None where the spec or the trials do not allow it."""
        smoothing = self._smoothing(group)
        if smoothing is None:
            return None
        one_for_all = self.spec.fork_budgets or not smoothing.over_flops
        made = [trial for trial in self._of(group) if not is_tuning(trial)]
        for trial in made:
            # What was trained stays: later sizes move the law, and would train all points anew.
            at, tuned_at = (facts_of(trial).get(k) for k in ("budget_flops", "tuned_at_flops"))
            if at == budget or (one_for_all and tuned_at == tuned_flops):
                return dict(trial.params)
        flops = budget
        if self.spec.fork_budgets:
            flops = middle_flops(group.budgets or group.verified)
        all_params = self.spec.fit.count_params == "all"
        num_params = group.params_all if all_params else group.params_non_embedding
        value = smoothing.value(group.key, num_params, flops, tuned_flops)
        return None if value is None else {smoothing.path: value}

    def _smoothing(self, group: Group) -> Smoothing | None:
        """Return what the tuning trials of a group's recipe say, read once."""
        if self.spec.tune is None or self.spec.tune.smooth_path is None:
            return None
        recipe = group_key(group.recipe, {}, group.data_size)
        if recipe not in self._smoothings:
            own = [
                trial
                for trial in self.trials
                if group_key(facts_of(trial)["recipe"], {}, facts_of(trial)["data_size"]) == recipe
            ]
            self._smoothings[recipe] = smoothing_of(self.spec, own)
        return self._smoothings[recipe]

    # --- points --------------------------------------------------------------------------------

    def _trunks(self) -> Wave | None:
        """Return the longest run of each group and seed, which all its other budgets fork from."""
        if not self.spec.fork_budgets:
            return None
        found = []
        for group in self.groups:
            if group.planned and len(group.budgets) > 1:
                found += self._missing(
                    group, group.budgets[-1], range(self.spec.seeds.default), trunk=True
                )
        return Wave(name="trunks", why="the runs that other budgets fork from", trials=found)

    def _points(self) -> Wave | None:
        found = []
        for group in self.groups:
            for budget in group.trained:
                found += self._missing(group, budget, range(self.spec.seeds.default))
        return Wave(name="points", why="every size at every budget", trials=found)

    def _minima(self) -> Wave | None:
        """Return more seeds where minima are read off; a fork's trunk is made with it."""
        num = self.spec.seeds.near_minimum or self.spec.seeds.default
        found: list[NewTrial] = []
        for group, budget in self._near_minimum():
            trunk = group.budgets[-1]
            if self.spec.fork_budgets and budget != trunk:
                found += self._missing(group, trunk, range(num), trunk=True)
        if not found:
            for group, budget in self._near_minimum():
                found += self._missing(group, budget, range(num))
        unique = {(new.config.fingerprint(), new.seed): new for new in found}
        why = "more seeds for the best size of each budget and its neighbours"
        return Wave(name="minima", why=why, trials=list(unique.values()))

    def _near_minimum(self) -> list[tuple[Group, float]]:
        found = []
        rivals: dict[str, list[Group]] = {}
        for group in self.groups:
            if group.budgets and group.planned:
                rivals.setdefault(repr((dict(group.recipe), group.data_size)), []).append(group)
        for groups in rivals.values():
            by_size = sorted(groups, key=lambda group: group.params_all)
            for budget in self.spec.budgets:
                there = [group for group in by_size if budget in group.budgets]
                values = [self._mean(group, budget) for group in there]
                if not values or not math.isfinite(min(values)):
                    continue
                best = values.index(min(values))
                found += [(group, budget) for group in there[max(best - 1, 0) : best + 2]]
        return found

    def _mean(self, group: Group, budget: float) -> float:
        """Return the first seed's value: the same number of seeds for every size."""
        tuned = self.tuned(group, budget)
        if tuned is None:
            return math.inf
        new = self._trial(group, budget, tuned[0], purpose="point")
        known = self._known.get((new.config.fingerprint(), new.seed))
        return math.inf if known is None else value_of(known, self.spec.metric)

    def _missing(
        self, group: Group, budget: float, repeats: range, *, trunk: bool = False
    ) -> list[NewTrial]:
        """Return the trials of a point that are not recorded yet."""
        tuned = self.tuned(group, budget)
        if tuned is None:
            return []
        verified = budget in group.verified or not group.planned
        purpose = "verification" if verified else "point"
        attrs = {**tuned[1], "trunk": True} if trunk else tuned[1]
        found = []
        for repeat in repeats:
            new = self._trial(group, budget, tuned[0], purpose=purpose, repeat=repeat, attrs=attrs)
            if (new.config.fingerprint(), new.seed) not in self._known:
                found.append(new)
        return found

    def _trial(
        self,
        group: Group,
        budget: float,
        params: Params,
        *,
        purpose: str,
        repeat: int = 0,
        attrs: Mapping[str, Any] | None = None,
        sampler_attrs: Mapping[str, Any] | None = None,
    ) -> NewTrial:
        """Return one trial of a group; all its trials of one repeat share their seed.

        So the best tuning trial is a point of its budget, and forks may share a run.
        """
        seed = derived_seed(self.seed, f"point {group.key}", repeat)
        epochs = group.lengths.epochs(budget)
        values = {**group.values, **params}
        rows = group.lengths.rows_per_epoch
        config = self.spec.configure(values, rows_per_epoch=rows, epochs=epochs)
        facts: dict[str, Any] = {"repeat": repeat, **(attrs or {})}
        parent, shared = None, 0
        if self.spec.fork_budgets:
            updates = updates_per_epoch(rows, config.train.batch_size)
            fraction = group.warmup_updates / (epochs * updates)
            config = config.with_values({"schedule.warmup_fraction": fraction})
            schedule = config.schedule
            facts["fork_epoch"] = fork_epoch(schedule, epochs, updates)
            if facts.get("trunk"):
                lengths = {group.lengths.epochs(budget) for budget in group.budgets}
                facts["forks"] = sorted(fork_epoch(schedule, n, updates) for n in lengths)
            if purpose == "point":
                parent, shared = self._parent(group, params, seed, epochs, facts["fork_epoch"])
        return NewTrial(
            group=group,
            purpose=purpose,
            budget_flops=budget,
            config=config,
            params=params,
            seed=seed,
            attrs=facts,
            sampler_attrs={
                **(sampler_attrs or {}),
                **({} if parent is None else {SHARED_EPOCHS: shared}),
            },
            parent_trial=parent,
        )

    def _parent(
        self, group: Group, params: Params, seed: int, epochs: int, fork: int
    ) -> tuple[int | None, int]:
        """Return the run that shares most epochs with a new one, if any does, and how many."""
        shared = {
            trial.trial_id: min(fork, int(facts_of(trial)["fork_epoch"]))
            for trial in self._of(group)
            if trial.seed == seed
            and trial.horizon_epochs != epochs
            and dict(trial.params) == params
            and trial.state == "complete"
            and facts_of(trial).get("trunk")
        }
        best = max(shared, key=lambda trial_id: shared[trial_id], default=None)
        if best is None or shared[best] == 0:
            return None, 0
        return best, shared[best]

    def _of(self, group: Group) -> list[TrialRecord]:
        return self._by_group.get(group.key, [])
