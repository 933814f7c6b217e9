"""The ledger as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.ledger.codec import COMMON_METRICS, dumps
from service.ledger.curves import CurveStore
from service.ledger.schema import epochs
from service.ledger.searches import SearchStore
from service.ledger.segments import SegmentStore
from service.ledger.store import chunks
from service.ledger.trials import TrialStore

if TYPE_CHECKING:
    import pandas as pd

_TRIAL_FIELDS = (
    "trial_id",
    "round",
    "batch",
    "role",
    "state",
    "reason",
    "horizon_epochs",
    "epochs_done",
    "stopped_early",
    "config_id",
    "seed",
    "parent_trial",
    "num_params",
    "flops_per_epoch",
)
_OPTIONAL_NUMBERS = {"parent_trial": "Int64", "num_params": "Int64", "flops_per_epoch": "float64"}
_ROUND_FIELDS = (
    "round",
    "kind",
    "state",
    "reason",
    "sampler",
    "sampler_reason",
    "epochs",
    "planned_trials",
    "space",
    "reasons",
    "outcome",
    "started_unix_s",
    "finished_unix_s",
)
_SEGMENT_FIELDS = (
    "segment_id",
    "round",
    "batch",
    "rung",
    "trial_ids",
    "stop_epoch",
    "attempt",
    "state",
    "error",
    "seconds",
    "host",
)


class FrameStore(SearchStore, TrialStore, SegmentStore, CurveStore):
    """Frames of one search. Integers stay integers, with `<NA>` where one is missing."""

    def trials_frame(self, search_id: str, trial_ids: Iterable[int] | None = None) -> pd.DataFrame:
        """Return one row per trial, of all or of those that are named.

        Searched values are columns `param.<path>`, final metrics columns of their own name.
        """
        records = self.trials(search_id, trial_ids=trial_ids)
        rows = [{name: getattr(record, name) for name in _TRIAL_FIELDS} for record in records]
        frame = _frame(rows, _TRIAL_FIELDS).astype(_OPTIONAL_NUMBERS)
        params = _columns([record.params for record in records], prefix="param.")
        metrics = _columns([record.metrics for record in records])
        return _joined(frame, params, metrics)

    def curves_frame(self, search_id: str, trial_ids: Iterable[int] | None = None) -> pd.DataFrame:
        """Return one row per trial and epoch: trial_id, epoch, status, busy_s, then each metric."""
        import pandas as pd  # loaded late: reading a frame is the only thing that needs it

        columns = [epochs.c[name] for name in ("trial_id", "epoch", "status", "busy_s")]
        metrics = [epochs.c[name] for name in COMMON_METRICS]
        query = sa.select(*columns, *metrics, epochs.c.extras).where(
            epochs.c.search_id == search_id
        )
        rows: list[Any] = []
        with self._reading() as connection:
            self._require_search(connection, search_id)
            for part in chunks(trial_ids):
                limited = query if part is None else query.where(epochs.c.trial_id.in_(part))
                rows += connection.execute(limited.order_by(epochs.c.trial_id, epochs.c.epoch))
        names = [column.name for column in (*columns, *metrics)]
        frame = pd.DataFrame.from_records([tuple(row)[:-1] for row in rows], columns=names)
        frame = frame.astype(
            {"trial_id": "int64", "epoch": "int64", "busy_s": "float64", "status": "str"}
            | dict.fromkeys(COMMON_METRICS, "float64")
        )
        extras = [row.extras or {} for row in rows]
        known_as_nan = {name for extra in extras for name in extra if name in COMMON_METRICS}
        unused = [n for n in COMMON_METRICS if frame[n].isna().all() and n not in known_as_nan]
        others = [{n: v for n, v in e.items() if n not in COMMON_METRICS} for e in extras]
        return _joined(frame.drop(columns=unused), _columns(others))

    def rounds_frame(self, search_id: str) -> pd.DataFrame:
        """Return one row per round; `space`, `reasons` and `outcome` hold mappings and lists."""
        rows = [
            {name: getattr(record, name) for name in _ROUND_FIELDS}
            for record in self.rounds(search_id)
        ]
        return _frame(rows, _ROUND_FIELDS)

    def segments_frame(self, search_id: str) -> pd.DataFrame:
        """Return one row per segment, in the order they were added."""
        rows = [
            {name: getattr(record, name) for name in _SEGMENT_FIELDS}
            for record in self.segments(search_id)
        ]
        return _frame(rows, _SEGMENT_FIELDS)


def _frame(rows: Sequence[Mapping[str, Any]], names: Iterable[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame({name: _series([row[name] for row in rows]) for name in names})


def _columns(mappings: Sequence[Mapping[str, Any]], prefix: str = "") -> dict[str, pd.Series[Any]]:
    names = dict.fromkeys(name for mapping in mappings for name in mapping)
    return {f"{prefix}{name}": _series([m.get(name) for m in mappings]) for name in names}


def _joined(frame: pd.DataFrame, *parts: Mapping[str, pd.Series[Any]]) -> pd.DataFrame:
    import pandas as pd

    columns = {name: column for part in parts for name, column in part.items()}
    columns = {name: column for name, column in columns.items() if name not in frame}
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


def _series(values: Sequence[Any]) -> pd.Series[Any]:
    """Choose the narrowest type that holds the values as they are."""
    import pandas as pd

    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    complete = len(present) == len(values)
    if kinds == {bool}:
        return pd.Series(list(values), dtype="bool" if complete else "boolean")
    if kinds == {int}:
        return pd.Series(list(values), dtype="int64" if complete else "Int64")
    if kinds and kinds <= {int, float}:
        return pd.Series(list(values), dtype="float64")
    if kinds == {str}:
        return pd.Series(list(values), dtype="str")
    if len(kinds) > 1 and bool(kinds & {str, int, float, bool}):
        # A choice among unlike values ([none, 0.5, "auto"]): as text, which every format can hold.
        as_text = [v if v is None or isinstance(v, str) else dumps(v) for v in values]
        return pd.Series(as_text, dtype="str")
    return pd.Series(list(values), dtype="object")
