"""A job's log, copied piece by piece, so that it is there when the cluster is gone.

Positions count bytes of UTF-8 from the beginning of the job's first attempt. They never change,
so a reader that comes back with its position misses nothing and sees nothing twice.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from service.ledger.service_schema import job_logs
from service.ledger.store import Store


class JobLogStore(Store):
    """Logs of jobs."""

    def append_log(self, job_id: str, attempt: int, text: str, *, at_byte: int) -> int:
        """Add text to an attempt's log and return how many bytes of it there are now.

        Args:
            job_id: the job.
            attempt: the attempt whose log it is; the logs of attempts follow each other.
            text: what follows.
            at_byte: where in the attempt's log it belongs. What is there already is left out, so
                that copying a log twice, or from two processes, is copying it once.

        """
        with self._writing() as connection:
            have = _num_bytes(connection, job_id, attempt)
            new = text.encode()[max(have - at_byte, 0) :]
            if at_byte > have or not new:
                return have
            row = {
                "job_id": job_id,
                "attempt": attempt,
                "seq": connection.execute(
                    sa.select(sa.func.count()).where(*_of(job_id, attempt))
                ).scalar_one(),
                "first_byte": _num_bytes(connection, job_id),
                "num_bytes": len(new),
                "text": new.decode(),
            }
            connection.execute(sa.insert(job_logs), row)
        return have + len(new)

    def log_bytes(self, job_id: str, attempt: int | None = None) -> int:
        """Return how long the log is so far: of one attempt, or of all together."""
        with self._reading() as connection:
            return _num_bytes(connection, job_id, attempt)

    def read_log(
        self, job_id: str, *, offset: int = 0, limit_bytes: int = 65_536
    ) -> tuple[str, int]:
        """Return the log from a byte on, and the position where to go on reading.

        At most `limit_bytes`, and whole characters only: up to three bytes fewer.
        """
        found = b""
        with self._reading() as connection:
            first = connection.execute(
                sa.select(sa.func.max(job_logs.c.first_byte)).where(
                    job_logs.c.job_id == job_id, job_logs.c.first_byte <= offset
                )
            ).scalar()
            query = (
                sa.select(job_logs.c.first_byte, job_logs.c.text)
                .where(job_logs.c.job_id == job_id, job_logs.c.first_byte >= (first or 0))
                .where(job_logs.c.first_byte < offset + limit_bytes)
                .order_by(job_logs.c.first_byte)
            )
            for first_byte, text in connection.execute(query):
                found += text.encode()[max(offset - first_byte, 0) :]
        piece = found[:limit_bytes]
        text = piece.decode(errors="ignore")  # a character that was cut in two comes next time
        return text, offset + len(text.encode())


def _of(job_id: str, attempt: int | None) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [job_logs.c.job_id == job_id]
    if attempt is not None:
        conditions.append(job_logs.c.attempt == attempt)
    return conditions


def _num_bytes(connection: Connection, job_id: str, attempt: int | None = None) -> int:
    # Cast: PostgreSQL sums a BIGINT into a NUMERIC.
    total = sa.cast(sa.func.coalesce(sa.func.sum(job_logs.c.num_bytes), 0), sa.BigInteger)
    return int(connection.execute(sa.select(total).where(*_of(job_id, attempt))).scalar_one())
