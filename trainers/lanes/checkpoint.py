"""One file per pack, from which single lanes are read by memory mapping.

torch's reader refuses a truncated file but accepts a flipped byte, so each lane carries a SHA-256
over its numbers and counters, kept in its `CheckpointRef` (and so in the ledger), not in the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainers.errors import CheckpointError
from trainers.lanes.state import LaneState
from trainers.trial import CheckpointRef

_FORMAT = 1


def save_pack(path: str | Path, states: Sequence[LaneState]) -> list[CheckpointRef]:
    """Write the lanes to one file, durable and complete when the call returns.

    The file appears under its name only when it is whole: it is written beside it, synced, and
    renamed.

    Returns:
        One reference per lane, in order.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lanes, stacks = _stack(states)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save({"format": _FORMAT, "lanes": lanes, "stacks": stacks}, file)
            num_bytes = file.tell()
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return [
        CheckpointRef(
            trial_id=state.trial_id,
            epoch=state.epoch,
            path=str(path),
            lane=index,
            sha256=_digest(state),
            num_bytes=num_bytes // max(len(states), 1),
        )
        for index, state in enumerate(states)
    ]


def load_lane(ref: CheckpointRef) -> LaneState:
    """Read one lane; only its part of the file is touched.

    Raises:
        CheckpointError: where the file is missing, truncated or altered, or holds another lane.
    """
    return load_lanes([ref])[0]


def load_lanes(refs: Sequence[CheckpointRef]) -> list[LaneState]:
    """Read lanes of any number of files, opening each file once.

    Raises:
        CheckpointError: as `load_lane`.
    """
    files = {path: _open(path) for path in dict.fromkeys(ref.path for ref in refs)}
    return [_read_lane(files[ref.path], ref) for ref in refs]


def _stack(states: Sequence[LaneState]) -> tuple[list[dict[str, Any]], list[Tensor]]:
    """Return each lane's words, with (stack, row) of each tensor, and the stacks.

    Tensors of one name are stacked over the lanes that have them: a pack of many lanes is then a
    few large records, and one lane is a row of each.
    """
    lanes = [_describe(state) for state in states]
    members: dict[tuple[str, torch.dtype, torch.Size], list[Tensor]] = {}
    for lane, state in zip(lanes, states, strict=True):
        for name, tensor in state.tensors.items():
            key = (name, tensor.dtype, tensor.shape)
            rows = members.setdefault(key, [])
            lane["rows"][name] = (key, len(rows))
            rows.append(tensor.cpu())
    place = {key: index for index, key in enumerate(members)}
    for lane in lanes:
        lane["rows"] = {name: (place[key], row) for name, (key, row) in lane["rows"].items()}
    return lanes, [torch.stack(rows) for rows in members.values()]


def _describe(state: LaneState) -> dict[str, Any]:
    return {
        "trial_id": state.trial_id,
        "epoch": state.epoch,
        "status": state.status,
        "reason": state.reason,
        "counters": {name: float(value) for name, value in state.counters.items()},
        "metrics": {name: float(value) for name, value in state.metrics.items()},
        "rows": {},
    }


def _digest(state: LaneState) -> str:
    words = {key: value for key, value in _describe(state).items() if key != "rows"}
    digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
    for name, tensor in sorted(state.tensors.items()):
        tensor = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        # Viewed as bytes, because numpy has no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _open(path: str) -> dict[str, Any]:
    try:
        content = torch.load(path, mmap=True, weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise CheckpointError(
            f"checkpoint {path} is missing; resume from an earlier epoch, or train the trial anew"
        ) from None
    except Exception as error:  # a damaged file can fail anywhere in zip and pickle reading
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise CheckpointError(
            f"{path} is not a pack of format {_FORMAT}; it was written by another version or "
            "program: run with the version that wrote it"
        )
    return content


def _read_lane(content: dict[str, Any], ref: CheckpointRef) -> LaneState:
    try:
        lane = content["lanes"][ref.lane]
        state = LaneState(
            trial_id=lane["trial_id"],
            epoch=lane["epoch"],
            status=lane["status"],
            reason=lane["reason"],
            tensors={
                name: content["stacks"][stack][row].clone()
                for name, (stack, row) in lane["rows"].items()
            },
            counters=lane["counters"],
            metrics=lane["metrics"],
        )
        digest = _digest(state)
    except Exception as error:  # altered bytes can turn any key, index or number into another
        raise _damaged(ref.path, f"{type(error).__name__}: {error}") from error
    if digest != ref.sha256:
        raise _damaged(
            ref.path, f"lane {ref.lane} has SHA-256 {digest[:12]}, recorded is {ref.sha256[:12]}"
        )
    # A reference made out to another trial hands the lane over: a longer child goes on from it.
    return replace(state, trial_id=ref.trial_id)


def _damaged(path: str, what: str) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {path} is truncated or altered ({what}); "
        "resume from an earlier epoch, or train the trial anew"
    )


def _sync_directory(directory: Path) -> None:
    """Make the rename itself durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
