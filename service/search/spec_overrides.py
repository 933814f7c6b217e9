"""`--set key=value`: change a spec from the command line, in the words of the spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from search_spaces import Space
from service.search.spec_checks import SECTIONS, trial_sections
from service.search.yaml_loading import parse_value
from trainers.config import flat, nested
from trainers.errors import ConfigError, nearest


def apply_overrides(
    mapping: Mapping[str, Any], overrides: Iterable[str], keys: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the spec's plain values with `key=value` settings applied, and what that changed.

    A setting of a trial's path takes it out of `space` and `derive`. Other keys reach into
    the spec (`budget.trials=10`, `rounds.0.epochs=2`, `space.optimizer.lr=[1e-3, 1e-2]`).

    Args:
        mapping: plain values of the spec file.
        overrides: texts `key=value`; the value is YAML.
        keys: valid top-level keys.

    Raises:
        ConfigError: for a text without `=`, an unknown top-level key or a bad list index.

    """
    result, notes = dict(mapping), []
    for text in overrides:
        path, equals, value_text = text.partition("=")
        path = path.strip()
        if not equals or not path:
            raise ConfigError(f"`--set` takes key=value, but got {text!r}; try optimizer.lr=1e-3")
        top = path.split(".")[0]
        if top not in keys:
            raise ConfigError(f"`--set {text}`: unknown key `{path}`{nearest(top, list(keys))}")
        value = parse_value(value_text)
        if top in SECTIONS:
            result, said = _fix(result, path, value)
            notes += said
        elif top in ("space", "derive", "constraints", "objectives") and "." in path:
            result[top] = {**_section(result, top), path.partition(".")[2]: value}
        else:
            result = _put(result, path.split("."), value, text)
    return result, notes


def _section(mapping: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = mapping.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"`{name}` must be a mapping, but got {section!r}")
    return dict(section)


def _fix(mapping: dict[str, Any], path: str, value: Any) -> tuple[dict[str, Any], list[str]]:
    """Give trial paths fixed values; they are then neither searched nor derived."""
    notes: list[str] = []
    rest = {key: v for key, v in mapping.items() if str(key).split(".")[0] not in SECTIONS}
    settings = dict(flat(nested({path: value})))
    sections = dict(flat(trial_sections(mapping)))
    for setting, fixed in settings.items():
        if rest.get("space"):
            rest["space"], said = _without(rest["space"], setting, fixed)
            notes += said
        if setting in _section(rest, "derive"):
            rest["derive"] = {k: v for k, v in rest["derive"].items() if k != setting}
            notes.append(f"`{setting}` is fixed to {fixed!r} and no longer derived")
    if isinstance(rest.get("rounds"), list):
        rest["rounds"] = [_round_without(r, settings) for r in rest["rounds"]]
    return {**rest, **nested({**sections, **settings})}, notes


def _without(space: Any, path: str, value: Any) -> tuple[Any, list[str]]:
    parsed = Space.from_mapping(space)
    if path not in parsed:
        return space, []
    left, notes = parsed.fixed(path, value)
    return left.to_mapping(), notes


def _round_without(round_: Any, settings: Mapping[str, Any]) -> Any:
    """Take the fixed paths out of a round's own space."""
    if not isinstance(round_, Mapping) or not round_.get("space"):
        return round_
    space = round_["space"]
    for path, value in settings.items():
        space, _ = _without(space, path, value)
    return {**round_, "space": space}


def _put(mapping: dict[str, Any], parts: list[str], value: Any, text: str) -> dict[str, Any]:
    """Return a copy with `value` at a path; digits count into lists."""
    key, below = parts[0], parts[1:]
    old = mapping.get(key)
    if not below:
        return {**mapping, key: value}
    if isinstance(old, list):
        index = int(below[0]) if below[0].isdigit() else len(old)
        if index >= len(old):
            raise ConfigError(
                f"`--set {text}`: `{key}` has items 0 to {len(old) - 1}, but got {below[0]}"
            )
        item = old[index]
        changed = _put(item, below[1:], value, text) if below[1:] else value
        return {**mapping, key: [*old[:index], changed, *old[index + 1 :]]}
    return {**mapping, key: _put(dict(old) if isinstance(old, Mapping) else {}, below, value, text)}
