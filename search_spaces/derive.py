"""`derive`: hyperparameters computed from others by arithmetic, and by nothing else.

An expression is parsed by Python's own parser and evaluated node by node; any node that is not
plain arithmetic is refused before evaluation, so a spec file cannot run code.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from trainers.errors import SpaceError, nearest

MAX_EXPRESSION_CHARS = 500
_GRAMMAR = "use + - * / // %, min, max, floor, numbers and dotted paths"

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": min, "max": max, "floor": math.floor}


@dataclass(frozen=True)
class Derived:
    """One derived hyperparameter: `path = expression`."""

    path: str
    expression: str

    def __post_init__(self) -> None:
        for _ in self._checked_names(self._tree()):
            pass

    def _tree(self) -> ast.expr:
        if len(self.expression) > MAX_EXPRESSION_CHARS:
            raise self._refused(f"has {len(self.expression)} characters", "shorten it to 500")
        try:
            return ast.parse(self.expression.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._refused(f"cannot be read ({error})", _GRAMMAR) from None

    def _refused(self, what: str, next_step: str) -> SpaceError:
        return SpaceError(f"`derive.{self.path}`: {self.expression[:80]!r} {what}; {next_step}")

    def _checked_names(self, node: ast.expr) -> Iterator[str]:
        """Yield every path in `node`; raise at the first thing that is no arithmetic."""
        match node:
            case ast.Constant(value=bool()) | ast.Constant(value=complex()):
                raise self._refused(f"holds {ast.unparse(node)}", _GRAMMAR)
            case ast.Constant(value=int() | float()):
                return
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
                yield from self._checked_names(left)
                yield from self._checked_names(right)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                yield from self._checked_names(operand)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                if not args or (name == "floor" and len(args) != 1):
                    raise self._refused(f"gives {name} {len(args)} arguments", _GRAMMAR)
                for argument in args:
                    yield from self._checked_names(argument)
            case ast.Attribute() | ast.Name():
                yield self._dotted(node)
            case _:
                raise self._refused(f"holds {ast.unparse(node)[:40]!r}", _GRAMMAR)

    def _dotted(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                return name
            case ast.Attribute(value=owner, attr=name):
                return f"{self._dotted(owner)}.{name}"
        raise self._refused(f"holds {ast.unparse(node)[:40]!r}", _GRAMMAR)

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that the expression reads, each once."""
        return tuple(dict.fromkeys(self._checked_names(self._tree())))

    def evaluate(self, values: Mapping[str, Any]) -> int | float:
        """Compute the expression from `values` (dotted path -> number).

        Raises:
            SpaceError: if a path has no value or no number, or the arithmetic fails.

        """
        try:
            result = self._value(self._tree(), values)
        except (ZeroDivisionError, OverflowError) as error:
            used = {path: values.get(path) for path in self.paths}
            raise self._refused(
                f"fails for {used} ({error})", "guard it, e.g. by max(1, ..)"
            ) from (None)
        if isinstance(result, float) and not math.isfinite(result):
            raise self._refused(f"gives {result}", "guard it, e.g. by max(1, ..)")
        return int(result) if isinstance(result, int) else float(result)

    def _value(self, node: ast.expr, values: Mapping[str, Any]) -> Any:
        match node:
            case ast.Constant(value=value):
                return value
            case ast.BinOp(op=op, left=left, right=right):
                return _BINARY[type(op)](self._value(left, values), self._value(right, values))
            case ast.UnaryOp(op=unary, operand=operand):
                return _UNARY[type(unary)](self._value(operand, values))
            case ast.Call(func=ast.Name(id=name), args=args):
                return _FUNCTIONS[name](*(self._value(argument, values) for argument in args))
        path = self._dotted(node)
        if path not in values:
            raise self._refused(
                f"reads `{path}`, which has no value",
                f"name a setting{nearest(path, list(values))}",
            )
        value = values[path]
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._refused(f"reads `{path}` = {value!r}, which is no number", _GRAMMAR)
        return value


def derive(rules: Mapping[str, Derived], values: Mapping[str, Any]) -> dict[str, int | float]:
    """Compute all derived hyperparameters; one may read another.

    Args:
        rules: target path -> rule.
        values: dotted path -> value of everything else.

    Raises:
        SpaceError: if rules go round in a circle, read a missing path or divide by zero.

    """
    known = {path: value for path, value in values.items() if path not in rules}
    result: dict[str, int | float] = {}
    waiting = dict(rules)
    while waiting:
        ready = [p for p, rule in waiting.items() if not set(rule.paths) & set(waiting)]
        if not ready:
            circle = ", ".join(f"`derive.{path}`" for path in waiting)
            raise SpaceError(f"derived values must not need each other in a circle: {circle}")
        for path in ready:
            known[path] = result[path] = waiting.pop(path).evaluate(known)
    return result
