"""What every section of a configuration is made of."""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]

NO_NUMBER = "number_type"
"""Type of pydantic's fault where a number was asked for and text or true/false was given."""
GIVE_A_NUMBER = "; give one without quotes, such as 20 or 0.01"


class Section(BaseModel):
    """A section of a trial's configuration: frozen, and closed to unknown keys.

    A field of numbers takes numbers only: `true` is not 1, and `'20'` is not 20. A whole float is
    taken for an integer, because arithmetic of `derive` gives such.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name in _numeric_fields(cls):
            items = value if isinstance(value, list | tuple) else (value,)
            if any(isinstance(item, bool | str) for item in items):
                raise PydanticCustomError(NO_NUMBER, "Must be a number")
        return value


@cache
def _numeric_fields(section: type[BaseModel]) -> frozenset[str]:
    """Return the fields whose values, or whose items, are integers or floats and nothing else."""
    return frozenset(
        name
        for name, field in section.model_fields.items()
        if _kinds(field.annotation) - {type(None)} in ({int}, {float}, {int, float})
    )


def _kinds(annotation: Any) -> set[Any]:
    """Return the plain types that `X | None`, `Annotated[X, ..]` or `tuple[X, ...]` is made of."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kinds(inner[0])
    if origin in (Union, UnionType, tuple, list):
        return set().union(*(_kinds(part) for part in inner if part is not Ellipsis))
    return {annotation}
