"""Turn pydantic's faults into sentences: the rule, the actual value and the next step."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from trainers.config import TrialConfig, valid_paths
from trainers.errors import nearest

_NEXT_STEP = {
    "greater_than": "; give a larger number, or leave it out",
    "greater_than_equal": "; give a larger number, or leave it out",
    "float_parsing": "; give a number, such as 0.01",
    "int_parsing": "; give a whole number",
    "missing": "; add it",
}


def explain_spec(error: ValidationError, model: type[BaseModel]) -> str:
    """Say in one sentence per fault which rule was broken, by what value, and what to do."""
    return "\n".join(dict.fromkeys(_sentence(dict(fault), model) for fault in error.errors()))


def _sentence(fault: dict[str, Any], model: type[BaseModel]) -> str:
    location = [str(part) for part in fault["loc"]]
    path, kind, value = ".".join(location), fault["type"], fault.get("input")
    if kind == "extra_forbidden":
        valid = _valid_keys(location[:-1], model)
        return f"unknown key `{path}`{nearest(location[-1].split('.')[0], valid)}"
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


def check_path(path: str, role: str, *, has_factory: bool) -> str:
    """Return what is wrong with a dotted path into a trial's sections; empty if nothing.

    Args:
        path: e.g. `optimizer.lr`.
        role: where it stands in the spec, e.g. `space`.
        has_factory: a model factory takes keys of its own under `model.`.

    """
    valid = valid_paths(TrialConfig)
    if path in valid or (has_factory and path.startswith("model.") and path.count(".") == 1):
        return ""
    return f"unknown path `{role}.{path}`{nearest(path, valid)}"
