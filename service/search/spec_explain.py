"""Turn pydantic's faults into sentences: the rule, the actual value and the next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from trainers.config import TrialConfig, valid_paths
from trainers.errors import ConfigError, nearest
from trainers.sections import GIVE_A_NUMBER, NO_NUMBER

_NEXT_STEP = {
    "greater_than": "; give a larger number, or leave it out",
    "greater_than_equal": "; give a larger number, or leave it out",
    NO_NUMBER: GIVE_A_NUMBER,
}

_TAKES = {
    "dict_type": "takes a mapping {key: value}",
    "model_type": "takes a mapping {key: value}",
    "list_type": "takes a list [a, b]",
    "tuple_type": "takes a list [a, b]",
    "string_type": "takes text",
}
_COMMANDS = {
    "search": "`isoflop search`",
    "study": "`isoflop scale run`",
    "service": "`isoflop serve --config`",
}


def explain_spec(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one sentence per fault which rule was broken, by what value, and what to do."""
    return "\n".join(dict.fromkeys(_sentence(dict(fault), model) for fault in error.errors()))


def refuse_other_kind(mapping: Mapping[str, Any], kind: str) -> None:
    """Refuse a spec of another kind as such, and not key by key.

    Raises:
        ConfigError: the mapping is a search, a study or a service, and not of `kind`.

    """
    found = mapping.get("kind", kind)
    if isinstance(found, str) and found != kind and found in _COMMANDS:
        raise ConfigError(
            f"`kind` must be {kind} here, but got {found!r}; {_COMMANDS[found]} takes a {found}, "
            f"{_COMMANDS[kind]} a {kind}"
        )


def _sentence(fault: dict[str, Any], model: type[BaseModel]) -> str:
    location = [str(part) for part in fault["loc"]]
    path, kind, value = ".".join(location), fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        valid = _valid_keys(location[:-1], model)
        return f"unknown key `{path}`{nearest(location[-1].split('.')[0], valid)}"
    if kind == "missing":
        return f"`{path}` is missing; add it"
    if kind in _TAKES:
        return f"`{path}` {_TAKES[kind]}, but got {_shown(value)}"
    if kind == "value_error":
        message = str(fault["ctx"]["error"])
        return (
            message
            if f"`{location[0] if location else ''}" in message
            else (f"`{path}`: {message}" if path else message)
        )
    rule = fault["msg"][0].lower() + fault["msg"][1:]
    hint = _NEXT_STEP.get(kind, "")
    if kind == "literal_error" and isinstance(value, str):
        expected = str(fault["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
        hint = nearest(value, expected.split(", "))
        rule = rule if "did you mean" in hint else rule.split(" '")[0] + " one of the valid names"
    return f"`{path}`: {rule}, but got {_shown(value)}{hint}"


def _valid_keys(location: list[str], model: type[BaseModel]) -> list[str]:
    owner = model
    for part in location:
        if part in owner.model_fields:
            owner = _model_in(owner.model_fields[part].annotation) or owner
    return list(owner.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Find the model inside `X | None`, `Annotated[X, ..]` or `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def check_path(path: str, role: str, *, has_factory: bool, reader: str = "") -> str:
    """Return what is wrong with a dotted path into a trial's sections; empty if nothing.

    Args:
        path: e.g. `optimizer.lr`.
        role: where it stands in the spec, e.g. `space`.
        has_factory: a model factory takes keys of its own under `model.`.
        reader: the path whose expression reads this one, if any.

    """
    valid = valid_paths(TrialConfig)
    if path in valid or (has_factory and path.startswith("model.") and path.count(".") == 1):
        return ""
    if reader:
        return f"`{role}.{reader}` reads an unknown path `{path}`{nearest(path, valid)}"
    return f"unknown path `{role}.{path}`{nearest(path, valid)}"
