"""A search's folder: tables, summary, the winner's spec and weights, and the report."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.ledger import Ledger
from service.report.best import best_yaml
from service.report.facts import Facts, collect
from service.report.files import write_frame, write_text, written
from service.report.page import render_page
from service.report.summary import SUMMARY_NAME, summary
from service.report.verdict import Answer, answer, sentence
from trainers.errors import ConfigError

if TYPE_CHECKING:
    from service.energy import EnergyAccounts, Site

ENERGY_COLUMNS = ("part", "kwh")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where the files of one search lie. `best_yaml` and `weights` are None before a winner."""

    directory: Path
    summary: Path
    report: Path
    trials: Path
    curves: Path
    energy: Path
    best_yaml: Path | None
    weights: Path | None
    verdict: str


def write_outputs(
    ledger: Ledger,
    search_id: str,
    out_dir: str | Path,
    *,
    accounts: EnergyAccounts | None = None,
    site: Site | None = None,
) -> Outputs:
    """Write everything a reader may want of one search into its folder.

    Every file is written beside its place and moved there, so a reader, or a kill, never meets
    half a file. Writing twice gives the same files; `isoflop report` is this function.

    Args:
        ledger: the open ledger.
        search_id: which search, finished or not.
        out_dir: the folder; made where missing.
        accounts: its energy; None: from the ledger.
        site: country, PUE and price; None: from the environment.

    Raises:
        LedgerError: if there is no such search.
        ConfigError: if the folder cannot be written.

    """
    directory = Path(out_dir)
    facts = collect(ledger, search_id, accounts=accounts, site=site)
    found = answer(facts)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        trials = _tables(facts, directory)
        best = None
        if found is not None:
            best = write_text(directory / "best.yaml", best_yaml(facts, found))
        text = json.dumps(summary(facts), indent=2, allow_nan=False)
        return Outputs(
            directory=directory,
            summary=write_text(directory / SUMMARY_NAME, text + "\n"),
            report=write_text(directory / "report.html", render_page(facts)),
            trials=trials,
            curves=directory / "curves.parquet",
            energy=directory / "energy.parquet",
            best_yaml=best,
            weights=_weights(facts, directory),
            verdict=sentence(found),
        )
    except OSError as error:
        raise ConfigError(
            f"the output folder must be writable, but {error.filename or directory} is not "
            f"({error.strerror}); choose another with `--out`"
        ) from error


def verdict_sentence(ledger: Ledger, search_id: str) -> str:
    """Say the answer in one line: value with interval, gain over the baseline, noise."""
    return sentence(_answer(ledger, search_id))


def _answer(ledger: Ledger, search_id: str) -> Answer | None:
    return answer(collect(ledger, search_id, with_energy=False))


def _tables(facts: Facts, directory: Path) -> Path:
    import pandas as pd

    trials = facts.trials_frame
    if facts.accounts is not None:
        own = facts.accounts.per_trial.set_index("trial_id")[["active_kwh", "unmeasured_kwh"]]
        trials = trials.join(own, on="trial_id")
    energy = pd.DataFrame(columns=list(ENERGY_COLUMNS))
    if facts.accounts is not None:
        energy = facts.accounts.frame()
    write_frame(directory / "curves.parquet", facts.curves)
    write_frame(directory / "energy.parquet", energy)
    written(directory / "trials.csv", lambda path: trials.to_csv(path, index=False))
    return write_frame(directory / "trials.parquet", trials)


def _weights(facts: Facts, directory: Path) -> Path | None:
    """Copy the winner's weights into the folder, where they do not lie there already."""
    named = facts.winner_event.get("weights")
    if not named:
        return None
    source, target = Path(str(named)), directory / "weights.pt"
    if not source.exists():
        return target if target.exists() else None
    if target.exists() and source.samefile(target):
        return target
    return written(target, lambda path: shutil.copyfile(source, path))
