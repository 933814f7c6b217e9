"""Which sampler, how many trials a batch: each choice with its reason."""

from __future__ import annotations

from collections.abc import Sequence

from search_spaces import Space
from search_spaces.distributions import Choice
from service.search.objectives import Objective
from trainers.errors import ConfigError, nearest

INLINE = ("grid", "random", "sobol")
"""Answer at once, and learn nothing."""
MODEL_BASED = ("tpe", "gp", "cmaes", "nsga2")
"""Take milliseconds to seconds an ask, and learn from what is told."""
SAMPLERS = ("auto", *INLINE, *MODEL_BASED)

_LANES_A_PACK = 64
_LEARNING_BATCHES = 6
_FEW_TRIALS = 16
"""TPE and GP learn from ten trials on: with fewer than this there is nothing to gain."""


def check_sampler(name: str) -> str:
    """Return `name` if there is such a sampler.

    Raises:
        ConfigError: naming the nearest valid one.

    """
    if name not in SAMPLERS:
        raise ConfigError(f"unknown sampler {name!r}{nearest(name, SAMPLERS)}")
    return name


def choose_sampler(
    space: Space,
    num_trials: int,
    objectives: Sequence[Objective],
    epochs: int | None,
    round_index: int = 0,
) -> tuple[str, str]:
    """Choose for `sampler: auto`.

    Args:
        space: the round's space.
        num_trials: the round's number of configurations.
        objectives: one or several.
        epochs: horizon of the round's trials; None where the base configuration says it.
        round_index: 0 is the coarse round, from which the space is refined.

    Returns:
        The sampler's name and the reason, with the numbers that decided.

    """
    if space.is_finite and space.size is not None and space.size <= num_trials:
        return "grid", f"all {space.size} configurations fit into {num_trials} trials"
    if round_index <= 0:
        return "sobol", (
            "the coarse round is to cover the space evenly, so that it can be narrowed; "
            "a Sobol sequence does so better than random draws"
        )
    if num_trials < _FEW_TRIALS:
        return "sobol", f"{num_trials} trials are too few to learn from while they run"
    if len(objectives) > 1:
        if num_trials >= 400:
            return "nsga2", f"{len(objectives)} objectives and {num_trials} trials: 8 generations"
        return "tpe", f"{len(objectives)} objectives, but too few trials for NSGA-II (needs 400)"
    numeric = not any(isinstance(d, Choice) or d.when for d in space.values())
    if numeric and num_trials <= 64 and (epochs or 0) >= 50:
        return "gp", (
            f"{num_trials} long trials ({epochs} epochs) over numbers only: a Gaussian process "
            "learns most from each, and its second an ask does not matter here"
        )
    if numeric and num_trials >= 100 * len(space) and len(space) >= 2:
        return "cmaes", f"{len(space)} numbers and {num_trials} trials: over 100 for each number"
    return "tpe", "learns from pruned trials, choices and conditions too, in milliseconds an ask"


def resolve_sampler(name: str, space: Space, objectives: Sequence[Objective]) -> tuple[str, str]:
    """Return the sampler that can do what `name` is asked to, and why it is another one.

    Returns:
        `name` and an empty reason, or the fall-back and the reason.

    Raises:
        ConfigError: if there is no such sampler, or it is `auto`, which is chosen per round.

    """
    check_sampler(name)
    if name == "auto":
        raise ConfigError("`auto` must be resolved with choose_sampler before asking; do that once")
    if name == "cmaes":
        if len(objectives) > 1:
            return "nsga2", f"CMA-ES takes one objective, but there are {len(objectives)}"
        if not any(not isinstance(d, Choice) and not d.when for d in space.values()):
            return "tpe", "CMA-ES needs a number that is always searched, but the space has none"
    if name == "gp" and not any(not d.when for d in space.values()):
        return "tpe", "a GP needs a hyperparameter that is always searched, but there is none"
    return name, ""


def sampler_notes(name: str, space: Space) -> list[str]:
    """Return what a user should know about `name` on this space; the report shows it."""
    conditional = [path for path, d in space.items() if d.when]
    choices = [path for path, d in space.items() if isinstance(d, Choice) and not d.when]
    left = {"cmaes": [*choices, *conditional], "gp": conditional}.get(name, [])
    notes = []
    if left:
        notes.append(f"{name} does not model {', '.join(left)}: an independent TPE samples them")
    if name in ("gp", "cmaes", "nsga2"):
        notes.append(f"{name} learns from trials that ran to their end only, not from pruned ones")
    return notes


def choose_batch_size(sampler: str, num_trials: int) -> tuple[int, str]:
    """Choose how many configurations are asked together. Workers have no part in it.

    The batch decides what a sampler knows, so a number that followed the workers would make the
    result depend on them.
    """
    if sampler in INLINE:
        size = min(num_trials, 4 * _LANES_A_PACK)
        return size, f"{sampler} learns nothing, so batches of {size} cost no knowledge"
    size = min(max(num_trials // _LEARNING_BATCHES, 8), _LANES_A_PACK, max(num_trials, 1))
    return size, (
        f"{num_trials} trials in batches of {size}: small enough to learn from about "
        f"{-(-num_trials // size)} batches, large enough to fill a pack"
    )
