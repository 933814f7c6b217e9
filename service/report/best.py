"""The winner's configuration as a spec of its own."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML

from service.report.facts import Facts
from service.report.verdict import Answer, sentence
from trainers.config import TrialConfig, flat, nested


def best_sections(facts: Facts, found: Answer) -> dict[str, Any]:
    """Return the winner's sections: what was searched, what the spec set, what is no default."""
    config: Mapping[str, Any] = found.best.first.config
    defaults = dict(flat(TrialConfig().full_mapping()))
    spec = {path for path, _ in flat(facts.search.spec)}
    named = {*found.best.first.params, "model.kind", "optimizer.kind", "optimizer.lr"}
    named |= {"data.name", "train.epochs", "train.batch_size"}
    kept = {
        path: value
        for path, value in flat(config)
        if value is not None
        and (path in named or path in spec or path not in defaults or value != defaults[path])
    }
    return nested(kept)


def best_yaml(facts: Facts, found: Answer) -> str:
    """Write the winner as a spec without `space`: it runs one trial, as it is.

    A header says where it comes from; `train.seed` in it would repeat the very trial.
    """
    header = (
        f"# The best of search {facts.search.search_id}: {sentence(found)}\n"
        f"# Run it with `isoflop search best.yaml`; `--set train.seed={found.best.first.seed}` "
        "repeats that very trial.\n"
    )
    spec = {
        "kind": "search",
        "name": f"{facts.search.name}-best",
        **best_sections(facts, found),
        "objectives": {o.metric: o.direction for o in facts.objectives},
    }
    return header + yaml_text(spec)


def yaml_text(mapping: Mapping[str, Any]) -> str:
    """Write plain values as block-style YAML, keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    buffer = io.StringIO()
    yaml.dump(dict(mapping), buffer)
    return buffer.getvalue()
