"""What `extend` adds to a search that ended, checked and put into plain words for the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from search_spaces import Space
from service.ledger import Ledger
from service.ledger.records import SearchRecord
from service.search.spec import RefineSpec, RoundSpec, SearchSpec
from service.search.yaml_loading import read_yaml
from trainers.errors import ConfigError


def plan_extension(
    ledger: Ledger,
    record: SearchRecord,
    spec: SearchSpec,
    trials: int | None,
    epochs: int | None,
    space: Space | Mapping[str, Any] | str | Path | None,
) -> dict[str, Any]:
    """Return the payload of an `extension` event.

    Raises:
        ConfigError: if nothing is asked for, or the space breaks a rule.

    """
    if trials is None and epochs is None:
        raise ConfigError(
            "`extend` needs `--trials N` (another round) or `--epochs E` (more epochs for the "
            "best), but got neither; try --trials 32"
        )
    if trials is None and space is not None:
        raise ConfigError("`--space` belongs to another round, so it needs `--trials` as well")
    number = max((known.round for known in ledger.rounds(record.search_id)), default=-1) + 1
    longest = max(round_.epochs or spec.base.train.epochs for round_ in spec.plan())
    if trials is None:
        assert epochs is not None
        if epochs <= longest:
            raise ConfigError(
                f"`--epochs` must be more than the {longest} that were trained, but got {epochs}"
            )
        return {"number": number, "epochs": epochs, "trials": None}
    given = _as_space(space)
    last = spec.plan()[-1]
    round_ = RoundSpec.model_validate(
        {
            "sampler": "auto" if last.sampler == "grid" else last.sampler,
            "trials": trials,
            "epochs": epochs or last.epochs,
            "halving": last.halving,
            "refine": None if given is not None else (last.refine or RefineSpec()),
        }
    )
    return {
        "number": number,
        "trials": trials,
        "epochs": round_.epochs,
        "round": round_.model_dump(mode="json", exclude_none=True),
        "space": given.to_mapping() if given is not None else None,
    }


def is_unfinished(ledger: Ledger, search_id: str, payload: Mapping[str, Any]) -> bool:
    """Say whether a search that has not finished was last extended by just this.

    Whoever asks again after a kill means the extension that was cut off, not a second one. The
    number is left out: it is the next free one, which moves on as the extension's rounds begin.
    """
    recorded = ledger.events(search_id, "extension")
    return bool(recorded) and all(
        recorded[-1].payload.get(key) == value for key, value in payload.items() if key != "number"
    )


def _as_space(space: Space | Mapping[str, Any] | str | Path | None) -> Space | None:
    if space is None or isinstance(space, Space):
        return space
    if isinstance(space, Mapping):
        return Space.from_mapping(space)
    mapping = read_yaml(space).mapping
    inner = mapping.get("space", mapping)
    if not isinstance(inner, Mapping):
        raise ConfigError(f"`{space}` must map dotted paths to distributions, but got {inner!r}")
    return Space.from_mapping(inner)
