"""Exit codes, in one place."""

from trainers.errors import IsoflopError, RecipeStopped

DONE = 0
CHECK_FAILED = 1
BAD_INPUT = 2
NOTHING_FINISHED = 3
RECIPE_STOPPED = 4
INTERRUPTED = 130


def exit_code_of(error: IsoflopError) -> int:
    """Return the exit code of a deliberate error."""
    return RECIPE_STOPPED if isinstance(error, RecipeStopped) else BAD_INPUT
