"""Samplers that learn: Optuna's TPE, GP, CMA-ES and NSGA-II, fresh for every batch.

A sampler object never outlives a batch. All it needs to go on lies in the told rows, so a
search killed at any instant asks for the same configurations when it is resumed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.trial import TrialState

from search_spaces import Space
from service.search.objectives import Objective
from service.search.samplers.evidence import STARTUP_TRIALS, TOLD_LIMITS, within_limit
from service.search.samplers.study import (
    build_study,
    move_cma_state,
    suggest,
)
from service.search.samplers.told import Ask, Told

_KEPT_STATE = {"cmaes": "cma:", "nsga2": "NSGAIISampler:"}
"""Prefix of the system attributes that carry a sampler's state from batch to batch."""


class ModelBased:
    """Proposals of one Optuna sampler for one batch."""

    def __init__(
        self,
        name: str,
        space: Space,
        rows: Sequence[Told],
        objectives: Sequence[Objective],
        *,
        seed: int,
        round_index: int,
        batch_size: int,
        num_planned: int,
    ) -> None:
        """Rebuild the study.

        Args:
            name: `tpe`, `gp`, `cmaes` or `nsga2`.
            space: the round's space.
            rows: evidence (see `study.evidence`).
            objectives: the first is primary.
            seed: of this batch.
            round_index: whose system attributes count.
            batch_size: of a full batch of this round: a generation of CMA-ES.
            num_planned: trials of the round, for the size of NSGA-II's population.

        """
        self._name, self._space, self._objectives = name, space, objectives
        self._seed, self._round = seed, round_index
        self._rows = within_limit(rows, objectives, TOLD_LIMITS.get(name, len(rows)))
        if name == "cmaes":
            self._rows = move_cma_state(self._rows, round_index)
        with _quiet():
            self._sampler = make_sampler(
                name,
                space,
                seed=seed,
                population=_population(name, space, batch_size, num_planned),
                multi_objective=len(objectives) > 1,
            )
        self._study = self._rebuild()
        self._last: optuna.Trial | None = None

    def propose(self) -> Ask:
        """Ask Optuna for one configuration."""
        with _quiet():
            self._last = self._study.ask()
            params = suggest(self._last, self._space)
        attrs = self._state_of(self._last.number)
        if any(key.startswith("cma:optimizer") for key in attrs):
            self._start_generation(params, attrs)
        return Ask(params=params, attrs=attrs)

    def reject(self) -> None:
        """Let the last proposal fail, so that it neither attracts nor repels."""
        if self._last is not None:
            with _quiet():
                self._study.tell(self._last, state=TrialState.FAIL)

    def _rebuild(self) -> optuna.Study:
        with _quiet():
            return build_study(
                self._rows, self._space, self._objectives, self._name, self._sampler, self._round
            )

    def _state_of(self, number: int) -> dict[str, object]:
        prefix = _KEPT_STATE.get(self._name)
        if prefix is None:
            return {}
        attrs = self._study.get_trials(deepcopy=False)[number].system_attrs
        return {key: value for key, value in attrs.items() if key.startswith(prefix)}

    def _start_generation(self, params: dict[str, object], attrs: dict[str, object]) -> None:
        """Show the rest of the batch the optimizer that this ask has just updated.

        Optuna would find it only once this trial is complete, and until then tell the old
        generation again with each ask, storing the optimizer each time.
        """
        number = self._rows[-1].number + 1
        asked = Told(number=number, params=params, state="running", attrs=attrs, round=self._round)
        self._rows = move_cma_state([*self._rows, asked], self._round)
        self._study = self._rebuild()
        self._last = None


def make_sampler(
    name: str, space: Space, *, seed: int, population: int, multi_objective: bool
) -> BaseSampler:
    """Return a fresh Optuna sampler.

    TPE is multivariate with constant liar, and by groups where the space has conditions (each
    group of hyperparameters that occur together gets a model of its own). GP and CMA-ES model
    the hyperparameters that are always active, CMA-ES only the numeric of them; the rest is
    left to an independent TPE.
    """
    conditional = any(dimension.when for dimension in space.values())
    # Seeds must fit numpy's RandomState; the independent sampler gets a stream of its own.
    other_seed = (seed + 1) % 2**32
    if name == "tpe":
        return TPESampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            multivariate=True,
            group=conditional,
            constant_liar=True,
        )
    if name == "nsga2":
        return NSGAIISampler(seed=seed, population_size=population)
    independent: BaseSampler = RandomSampler(seed=other_seed)
    if not multi_objective:
        independent = TPESampler(seed=other_seed, multivariate=False, constant_liar=True)
    if name == "gp":
        return GPSampler(
            seed=seed,
            n_startup_trials=STARTUP_TRIALS,
            independent_sampler=independent,
            warn_independent_sampling=False,
        )
    return CmaEsSampler(
        seed=seed,
        popsize=population,
        independent_sampler=independent,
        warn_independent_sampling=False,
    )


def _population(name: str, space: Space, batch_size: int, num_planned: int) -> int:
    """Return the size of a generation: CMA-ES takes a whole batch, NSGA-II a tenth of the round.

    CMA-ES's own default is 4 + 3 ln d (Hansen 2016); what a batch holds beyond the generation
    would be trained for nothing. NSGA-II needs about ten generations to get anywhere.
    """
    if name == "cmaes":
        return max(4 + int(3 * math.log(max(len(space), 1))), min(batch_size, 64))
    return min(max(8, 2 * (num_planned // 20)), 50)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Optuna's log and the notices that `group` and the GP are experimental.

    Both are chosen here on purpose and pinned by tests; a user can do nothing about them.
    """
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)
