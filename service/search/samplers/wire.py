"""Messages between a search and its sampler's process: pickles, each with its length before it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO, Any

from service.search.samplers.told import Asked
from trainers.errors import IsoflopError

_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Request:
    """One batch to ask for: the arguments of `ask`."""

    number: int
    args: tuple[Any, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The batch, or the error."""

    number: int
    asked: Asked | None
    error: IsoflopError | None


def write_frame(stream: IO[bytes], payload: bytes) -> None:
    """Write one message, length first."""
    stream.write(_LENGTH.pack(len(payload)) + payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Read one message; None where the stream ends, or breaks off in the middle of one."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    payload = stream.read(length)
    return payload if len(payload) == length else None
