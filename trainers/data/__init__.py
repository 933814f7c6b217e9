"""Data: built in or registered, split by seed, standardised by its training rows."""

from typing import TYPE_CHECKING, Any

from trainers.data.builtin import BUILT_IN
from trainers.data.catalogue import describe, find_source
from trainers.data.dataset import Dataset, Feature, Scaler, check_batch
from trainers.data.loading import load, make_dataset
from trainers.data.registry import register, registered
from trainers.data.source import Source

if TYPE_CHECKING:
    from trainers.data.reading import read_features

__all__ = [
    "BUILT_IN",
    "Dataset",
    "Feature",
    "Scaler",
    "Source",
    "check_batch",
    "describe",
    "find_source",
    "load",
    "make_dataset",
    "read_features",
    "register",
    "registered",
]


def __getattr__(name: str) -> Any:
    if name == "read_features":  # reading files needs pandas, training on built-in data does not
        from trainers.data.reading import read_features

        return read_features
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
