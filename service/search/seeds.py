"""Seeds without state: each is a function of the search's seed and of what it is for.

Nothing depends on how many seeds were drawn before, so a resumed search, or one with more
workers, uses the same ones.
"""

import hashlib

from trainers.errors import ConfigError


def derived_seed(search_seed: int, purpose: str, *numbers: int) -> int:
    """Return a seed in [0, 2**31) that only the arguments decide."""
    text = ":".join([str(search_seed), purpose, *map(str, numbers)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


def trial_seed(search_seed: int, round_: int, batch: int, position: int, repeat: int) -> int:
    """Seed of one trial asked by a sampler; `repeat` counts the seeds of one configuration."""
    return derived_seed(search_seed, "trial", round_, batch, position, repeat)


def finalist_seed(search_seed: int, repeat: int) -> int:
    """Seed of a finalist: equal for all finalists and the baseline, so that they pair up."""
    return derived_seed(search_seed, "finalist", repeat)


def check_seed(seed: int | None) -> None:
    """Refuse a search's seed that no generator takes; None is the spec's own.

    Raises:
        ConfigError: it is no whole number in [0, 2**63).

    """
    if seed is not None and not (type(seed) is int and 0 <= seed < 2**63):
        raise ConfigError(f"`seed` must be a whole number from 0 to 2**63 - 1, but got {seed!r}")
