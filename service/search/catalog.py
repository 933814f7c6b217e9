"""Every setting of a trial, read off the config classes themselves."""

from __future__ import annotations

import inspect
import re
import typing
from typing import Any

from pydantic import BaseModel

from trainers.config import TrialConfig, valid_paths
from trainers.errors import ConfigError, nearest


def settings(prefix: str | None = None) -> list[dict[str, str]]:
    """Return path, values, default and meaning of every setting, or of those under a prefix.

    Raises:
        ConfigError: if no setting begins so.

    """
    sections = list(TrialConfig.model_fields)
    if prefix is not None and prefix.split(".")[0] not in sections:
        raise ConfigError(f"no setting begins with `{prefix}`{nearest(prefix, sections)}")
    rows = _rows(TrialConfig, "")
    found = [row for row in rows if prefix is None or row["path"].startswith(prefix)]
    assert {row["path"] for row in rows} == set(valid_paths())
    return found


def _rows(model: type[BaseModel], prefix: str) -> list[dict[str, str]]:
    meanings = _docstrings(model)
    rows: list[dict[str, str]] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            rows += _rows(inner, f"{prefix}{name}.")
            continue
        rows.append(
            {
                "path": f"{prefix}{name}",
                "values": _values(inner, field.metadata),
                "default": str(field.default),
                "meaning": meanings.get(name, ""),
            }
        )
    return rows


def _values(annotation: Any, metadata: list[Any]) -> str:
    """Name the allowed values of a field in a few words."""
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, arguments))
    if arguments and type(None) in arguments:
        rest = [argument for argument in arguments if argument is not type(None)]
        return " | ".join([*(_values(argument, []) for argument in rest), "null"])
    if arguments:
        return _values(arguments[0], [*metadata, *arguments[1:]])
    bounds = [str(bound) for bound in metadata if "Ge" in str(bound) or "Gt" in str(bound)]
    name = getattr(annotation, "__name__", str(annotation))
    return name + (f" ({', '.join(bounds)})" if bounds else "")


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the string under each field in the class's source."""
    pattern = re.compile(r'^    (\w+): [^\n]*\n(?:[^\n"]*\n)*?    """(.*?)"""', re.M | re.S)
    source = inspect.getsource(model)
    return {name: " ".join(text.split()) for name, text in pattern.findall(source)}
