"""What a study writes beside its trials, and reads off the ledger again.

Reading needs neither the data nor a model, so points of a finished study load fast.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from service.ledger.records import TrialRecord

STUDY = "study"
"""Key of a trial's `sampler_attrs` under which its place in the study is written."""
PREDICTION = "prediction"
"""Kind of the event that holds what was predicted, written before anything is trained for it."""
NOT_DONE = ("stopped", "failed")
"""Cut off with their study, or lost with their worker: they are trained again when it goes on."""


def group_key(recipe: Mapping[str, Any], size: Mapping[str, Any], data_size: int | None) -> str:
    """Return one text for a group."""
    return json.dumps([dict(recipe), dict(size), data_size], sort_keys=True)


def facts_of(trial: TrialRecord) -> Mapping[str, Any]:
    """Return what a study wrote beside one of its trials."""
    facts: Mapping[str, Any] = trial.sampler_attrs[STUDY]
    return facts


def key_of(trial: TrialRecord) -> str:
    """Return the key of the group that a trial belongs to."""
    facts = facts_of(trial)
    return group_key(facts["recipe"], facts["size"], facts["data_size"])


def is_tuning(trial: TrialRecord) -> bool:
    """Say whether a trial was made to tune; the best of each budget is a point all the same."""
    return bool(facts_of(trial)["purpose"] == "tuning")


def recipe_name(recipe: Mapping[str, Any]) -> str:
    """Return a recipe in one word: its values, or nothing where nothing is compared."""
    return ", ".join(str(value) for value in recipe.values())
