"""Data: built in or registered, split by seed, standardised by its training rows."""

from trainers.data.builtin import BUILT_IN
from trainers.data.catalogue import describe, find_source
from trainers.data.dataset import Dataset, Feature, Scaler, check_batch
from trainers.data.loading import load, make_dataset
from trainers.data.reading import read_features
from trainers.data.registry import register, registered
from trainers.data.source import Source

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
