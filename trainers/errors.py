"""Every error isoflop raises on purpose, in one tree.

    IsoflopError                      anything a user may want to catch
    ├── ConfigError (ValueError)      a spec, config or argument breaks a rule; exit code 2
    │   ├── SpaceError                a search space breaks a rule
    │   ├── DataError                 data is unreadable, empty, unlabelled or does not fit
    │   ├── ScalingError              points cannot carry the law or the answer asked for
    │   └── SiteError                 country, PUE or price is missing or misspelt
    ├── CheckpointError               a checkpoint is truncated, altered or of another model
    ├── LedgerError                   the ledger cannot be opened, or is of a newer schema
    │   ├── MissingError              the ledger has no row of that id
    │   └── ChangedError              code or versions changed since the search began
    ├── ClusterError                  the Ray cluster does not answer, or refused a job
    ├── JobError                      what is asked of a job does not fit its state
    ├── MeterError                    the energy meter cannot be trusted
    ├── RecipeStopped                 the recipe's first checks failed; exit code 4
    ├── ServiceError                  a running service refused, or does not answer
    └── WorkerError                   a worker died or raised more often than is retried

A message states the rule, the actual value and the next step.
"""

from difflib import get_close_matches


class IsoflopError(Exception):
    """Anything isoflop raises on purpose."""


class ConfigError(IsoflopError, ValueError):
    """A spec, config or argument breaks a rule."""


class SpaceError(ConfigError):
    """A search space breaks a rule."""


class DataError(ConfigError):
    """Data is unreadable, empty, unlabelled or does not fit its use."""


class ScalingError(ConfigError):
    """Points of a scaling study cannot carry the law or the answer asked for."""


class SiteError(ConfigError):
    """Country, PUE or price is missing or misspelt."""


class CheckpointError(IsoflopError):
    """A checkpoint is truncated, altered or of another model."""


class LedgerError(IsoflopError):
    """The ledger cannot be opened, or is of a newer schema."""


class MissingError(LedgerError):
    """The ledger has no row of that id."""


class ChangedError(LedgerError):
    """Code or library versions changed since the search began."""


class ClusterError(IsoflopError):
    """The Ray cluster does not answer, or refused a job."""


class JobError(IsoflopError):
    """What is asked of a job does not fit its present state."""


class MeterError(IsoflopError):
    """The energy meter cannot be trusted."""


class RecipeStopped(IsoflopError):
    """The recipe's first checks failed, so searching would waste compute."""


class ServiceError(IsoflopError):
    """A running service refused what was asked, or does not answer."""


class WorkerError(IsoflopError):
    """A worker died or raised more often than isoflop retries."""


def nearest(name: str, valid: list[str] | tuple[str, ...]) -> str:
    """Return `; did you mean ...?` for the valid name nearest to `name`, or the valid names."""
    close = get_close_matches(name, valid, n=1, cutoff=0.5)
    if close:
        return f"; did you mean `{close[0]}`?"
    return f"; valid names: {', '.join(sorted(valid))}"
