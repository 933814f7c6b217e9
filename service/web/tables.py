"""Whole tables as downloads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from fastapi.responses import StreamingResponse

from service.ledger import Ledger
from service.ledger.export import harmless, storable

if TYPE_CHECKING:
    import pandas as pd

Table = Literal["trials", "curves", "rounds"]
Format = Literal["csv", "parquet"]
ROWS_AT_ONCE = 5_000
MEDIA = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}


def table_stream(ledger: Ledger, search_id: str, table: Table, format: Format) -> StreamingResponse:
    """Answer with one table of one search, piece by piece."""
    frame = storable(
        {
            "trials": ledger.trials_frame,
            "curves": ledger.curves_frame,
            "rounds": ledger.rounds_frame,
        }[table](search_id)
    )
    return frame_stream(frame, f"{search_id}-{table}", format)


def frame_stream(frame: pd.DataFrame, name: str, format: Format) -> StreamingResponse:
    """Answer with a table as a download of that name, piece by piece."""
    return StreamingResponse(
        _csv(frame) if format == "csv" else _parquet(frame),
        media_type=MEDIA[format],
        headers={"Content-Disposition": f'attachment; filename="{name}.{format}"'},
    )


def _csv(frame: pd.DataFrame) -> Iterator[bytes]:
    """Write rows; a text that a spreadsheet would run as a formula is quoted with an apostrophe."""
    safe = harmless(frame)
    for start in range(0, max(len(safe), 1), ROWS_AT_ONCE):
        part = safe.iloc[start : start + ROWS_AT_ONCE]
        yield part.to_csv(index=False, header=start == 0).encode()


def _parquet(frame: pd.DataFrame) -> Iterator[bytes]:
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    yield buffer.getvalue()
