"""What a search was made with, so that a resume under other code or versions is noticed."""

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import search_spaces
import trainers

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
