"""From a name and a split to a `Dataset`, once per process."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

import numpy as np
import torch

from trainers.config import DataConfig
from trainers.data.catalogue import find_source, source_key
from trainers.data.dataset import Dataset, Scaler
from trainers.data.source import Source
from trainers.data.splitting import split_rows
from trainers.data.windows import split_windows
from trainers.errors import DataError

CACHED_DATASETS = 4


def load(config: DataConfig) -> Dataset:
    """Load, split and standardise the data that a trial names.

    The result is cached per process by the configuration and the source's own hash. It lies on
    the CPU; `Dataset.to` moves it.

    Raises:
        DataError: for an unknown name (with the nearest known one), a source that cannot be
            read, or a split that leaves a part without rows.

    """
    return _load(config, source_key(config.name))


@lru_cache(maxsize=CACHED_DATASETS)
def _load(config: DataConfig, key: str) -> Dataset:
    """Load; `key` only tells the cache which data the name stands for at present."""
    return make_dataset(find_source(config.name), config)


def make_dataset(source: Source, config: DataConfig) -> Dataset:
    """Split a source and standardise every part by its training rows alone.

    A text is cut into windows, and its bytes are never standardised.
    """
    if source.task == "language":
        return _language(source, config)
    if config.context is not None:
        raise DataError(
            f"`data.context` cuts texts into windows, but `{config.name}` is for {source.task}; "
            "leave it out, or use `data.name: stdlib-bytes`"
        )
    train, val, test = split_rows(source, config)
    x_train, y_train = source.x[train], source.y[train]
    x_test = source.x_test if test is None else source.x[test]
    y_test = source.y_test if test is None else source.y[test]
    assert x_test is not None
    assert y_test is not None
    input_shape = source.x.shape[1:]
    scaler = Scaler.fit(x_train) if config.standardise else Scaler.identity(input_shape)
    target_scaler: Scaler | None = None
    if source.task == "regression":
        shape = source.y.shape[1:]
        target_scaler = Scaler.fit(y_train) if config.standardise else Scaler.identity(shape)

    def inputs(x: np.ndarray) -> torch.Tensor:
        return scaler.apply(torch.from_numpy(x))

    def targets(y: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(y)
        return tensor if target_scaler is None else target_scaler.apply(tensor)

    return Dataset(
        name=config.name,
        task=source.task,
        input_shape=tuple(input_shape),
        num_outputs=source.num_outputs,
        x_train=inputs(x_train),
        y_train=targets(y_train),
        x_val=inputs(source.x[val]),
        y_val=targets(source.y[val]),
        class_names=source.class_names,
        scaler=scaler,
        target_scaler=target_scaler,
        features=source.features,
        sha256=_fingerprint(source, config),
        num_rows=source.num_rows,
        _x_test=inputs(x_test),
        _y_test=targets(y_test),
    )


def _language(source: Source, config: DataConfig) -> Dataset:
    """Return the windows of a text, as inputs and targets of every position."""
    (x_train, y_train), (x_val, y_val), (x_test, y_test) = split_windows(source, config)
    input_shape = x_train.shape[1:]
    return Dataset(
        name=config.name,
        task=source.task,
        input_shape=tuple(input_shape),
        num_outputs=source.num_outputs,
        x_train=torch.from_numpy(x_train),
        y_train=torch.from_numpy(y_train),
        x_val=torch.from_numpy(x_val),
        y_val=torch.from_numpy(y_val),
        class_names=source.class_names,
        scaler=Scaler.identity(input_shape),
        target_scaler=None,
        features=(),
        sha256=_fingerprint(source, config),
        num_rows=len(x_train) + len(x_val) + len(x_test),
        _x_test=torch.from_numpy(x_test),
        _y_test=torch.from_numpy(y_test),
    )


def _fingerprint(source: Source, config: DataConfig) -> str:
    # A key that only texts have is left out of the others' hash.
    left_out = {"name"} if source.task == "language" else {"name", "context"}
    split = json.dumps(config.model_dump(mode="json", exclude=left_out), sort_keys=True)
    return hashlib.sha256(f"{source.sha256()}{split}".encode()).hexdigest()
