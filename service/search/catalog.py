"""Every setting of a trial, read off the config classes themselves."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
import typing
from typing import Any

from pydantic import BaseModel

from trainers.config import TrialConfig, valid_paths
from trainers.errors import ConfigError, nearest

WORDS = {str: "text", int: "whole number", float: "number", bool: "True | False"}
SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}


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
    if typing.get_origin(annotation) is typing.Annotated:
        return _values(arguments[0], [*metadata, *arguments[1:]])
    if typing.get_origin(annotation) is typing.Literal:
        return " | ".join(map(str, arguments))
    if type(None) in arguments:
        inner = next(argument for argument in arguments if argument is not type(None))
        return f"{_values(inner, metadata)} | None"
    return " ".join([WORDS[annotation], *_bounds(metadata)])


def _bounds(metadata: list[Any]) -> list[str]:
    """Return `> 0`, `< 1` and so on; inside a union pydantic nests them in a field."""
    found: list[str] = []
    for item in metadata:
        found += _bounds(getattr(item, "metadata", []))
        found += [
            f"{sign} {getattr(item, name):g}" for name, sign in SIGNS.items() if hasattr(item, name)
        ]
    return found


def _docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Return the string that stands right under each field in the class's source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0].body  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    for field, below in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found[field.target.id] = " ".join(text.split())
    return found
