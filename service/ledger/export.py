"""Handing a search to other tools: CSV and Parquet files, and an Optuna storage."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from service.ledger.codec import dumps
from service.ledger.frames import FrameStore
from trainers.errors import LedgerError

if TYPE_CHECKING:
    import pandas as pd


class ExportStore(FrameStore):
    """Exports; none of them changes the ledger."""

    def export(
        self, search_id: str, directory: str | Path, format: Literal["csv", "parquet"] = "parquet"
    ) -> list[Path]:
        """Write `trials`, `curves`, `rounds` and `segments` as files into `directory`.

        A file appears complete or not at all; one of the same name is replaced. Mappings and
        lists inside cells are JSON text.

        Raises:
            LedgerError: for an unknown format, or a directory that cannot be written.

        """
        if format not in ("csv", "parquet"):
            raise LedgerError(f"an export is `csv` or `parquet`, but got {format!r}")
        frames = {
            "trials": self.trials_frame(search_id),
            "curves": self.curves_frame(search_id),
            "rounds": self.rounds_frame(search_id),
            "segments": self.segments_frame(search_id),
        }
        target = Path(directory)
        try:
            target.mkdir(parents=True, exist_ok=True)
            return [
                _write(frame, target / f"{name}.{format}", format) for name, frame in frames.items()
            ]
        except OSError as error:
            raise LedgerError(
                f"the export cannot be written to {target} ({error.strerror}); "
                "name a directory that can be written"
            ) from error

    def export_optuna(self, search_id: str, storage_url: str) -> str:
        """Write the search into an Optuna storage as a study; return the study's name, its id.

        States are true: COMPLETE with values, PRUNED, FAIL (diverged, failed, or never trained),
        RUNNING and WAITING. Intermediate values are the first objective's, by epoch. A study
        that an earlier export wrote under this name is replaced.

        Raises:
            LedgerError: if the storage cannot be used, or holds a study of that name which
                is not an export of this search.

        """
        from service.ledger.optuna_export import write_study  # optuna takes a second to load

        if storage_url == self._url.render_as_string(hide_password=False):
            raise LedgerError(
                "Optuna's tables cannot share the ledger's own database (both have `trials`); "
                "name another one, e.g. `sqlite:///optuna.db`"
            )
        search = self.search(search_id)
        trials = self.trials(search_id)
        spaces = [record.space for record in self.rounds(search_id)]
        write_study(storage_url, search, trials, spaces, self.epoch_rows(search_id))
        return search_id


def harmless(frame: pd.DataFrame) -> pd.DataFrame:
    """Put an apostrophe before texts that a spreadsheet would run as a formula."""
    quoted: pd.DataFrame = frame.apply(lambda column: column.map(_no_formula))
    return quoted


def _no_formula(value: object) -> object:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def storable(frame: pd.DataFrame) -> pd.DataFrame:
    """Turn mappings and lists inside cells into JSON text, which every format can hold."""
    for name in frame.columns[frame.dtypes == "object"]:
        frame[name] = [None if value is None else dumps(value) for value in frame[name]]
    return frame


def _write(frame: pd.DataFrame, path: Path, format: str) -> Path:
    frame = storable(frame)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if format == "csv":
            frame.to_csv(partial, index=False)
        else:
            frame.to_parquet(partial, index=False)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path
