"""What a search was made with, so that a resume under other code or versions is noticed."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import search_spaces
import trainers
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from trainers.errors import ChangedError

RECORDED = (
    "isoflop", "torch", "numpy", "ray", "optuna", "cmaes", "scipy", "scikit-learn", "pandas",
    "codecarbon",
)  # fmt: skip
"""Packages whose version may change a result or a figure."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of every package that may change a result."""
    found = {"python": platform.python_version()}
    for name in RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@cache
def code_fingerprint() -> str:
    """Return sixteen hex digits over the sources that decide what a trial computes."""
    digest = hashlib.sha256()
    folders = [Path(trainers.__path__[0]), Path(search_spaces.__path__[0]), Path(__file__).parent]
    for folder in folders:
        for source in sorted(folder.rglob("*.py")):
            digest.update(source.relative_to(folder).as_posix().encode())
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def changes(
    then: Mapping[str, str], code_then: str, now: Mapping[str, str], code_now: str
) -> list[str]:
    """Return one sentence for each difference between two records of versions and code."""
    found = [
        f"{name}: {then.get(name, 'not recorded')} then, {now.get(name, 'not recorded')} now"
        for name in sorted({*then, *now})
        if then.get(name) != now.get(name)
    ]
    if code_then != code_now:
        found.append(f"isoflop's own code: {code_then} then, {code_now} now")
    return found


def refuse_changes(ledger: Ledger, record: SearchRecord, accept: bool) -> None:
    """Refuse to mix results of different code, or record that the user accepts it.

    Raises:
        ChangedError: with what changed since the search began.

    """
    now, code_now = versions(), code_fingerprint()
    found = changes(record.versions, record.code_fingerprint, now, code_now)
    if not found:
        return
    if not accept:
        listed = "\n  ".join(found)
        raise ChangedError(
            f"since `{record.search_id}` began, these changed, so new trials may not compare "
            f"with old ones:\n  {listed}\ngo on all the same with --accept-changes; it is recorded"
        )
    ledger.add_event(record.search_id, "changes_accepted", {"changes": found})
    ledger.update_search(record.search_id, versions=now, code_fingerprint=code_now)
