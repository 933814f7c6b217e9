"""`where`: which rows of a table count, said by comparisons and by nothing else.

    run_state == 'finished' and params >= 1e8 and optimizer.kind in ['adamw', 'muon']

An expression is parsed by Python's own parser and evaluated node by node over whole columns; calls,
attributes of objects, subscripts and everything else are refused before anything is computed, so a
spec or a command line cannot run code.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from trainers.errors import DataError, nearest

MAX_EXPRESSION_CHARS = 1000
SHOWN_LINES = 5
_GRAMMAR = (
    "use column names (`in backticks` where they hold spaces), numbers, 'text', True, False, "
    "== != < <= > >=, in [..], and, or, not, + - * / // %, ( )"
)
_QUOTED = re.compile(r"`([^`]*)`")

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


def rows_where(frame: pd.DataFrame, expression: str) -> np.ndarray:
    """Say for each row of `frame` whether `expression` holds.

    A text column that is compared with a number is read as numbers, and what is no number fulfils
    no comparison; so `val_loss > 0` also leaves out empty cells and `n/a`.

    Args:
        frame: a table of R rows.
        expression: comparisons of its columns; a dotted name is the column of that name.

    Returns:
        Booleans of shape (R,).

    Raises:
        DataError: if the expression cannot be read, holds more than comparisons and arithmetic,
            names a column that is missing (the nearest is named), divides by zero in any row, or
            gives no truth values.

    """
    return _Where(frame, expression).mask()


class _Where:
    """One expression over one table."""

    def __init__(self, frame: pd.DataFrame, expression: str) -> None:
        self.frame = frame
        self.expression = expression
        self._quoted: dict[str, str] = {}

    def mask(self) -> np.ndarray:
        tree = self._tree()
        if not list(self._checked(tree)):
            raise self._refused("names no column", "compare a column")
        try:
            value = self._value(tree)
        except (TypeError, ArithmeticError) as error:
            raise self._refused(f"cannot be computed ({error})", _GRAMMAR) from None
        if not (isinstance(value, np.ndarray) and value.dtype == bool):
            raise self._refused("does not say yes or no for each row", "compare a column")
        return value

    def _tree(self) -> ast.expr:
        if len(self.expression) > MAX_EXPRESSION_CHARS:
            raise self._refused(
                f"has {len(self.expression)} characters", f"shorten it to {MAX_EXPRESSION_CHARS}"
            )
        try:
            plain = _QUOTED.sub(self._placeholder, self.expression.strip())
            return ast.parse(plain, mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._refused(f"cannot be read ({error})", _GRAMMAR) from None

    def _placeholder(self, match: re.Match[str]) -> str:
        name = f"_quoted_{len(self._quoted)}_"
        self._quoted[name] = match.group(1)
        return name

    def _refused(self, what: str, next_step: str) -> DataError:
        return DataError(f"`where` {self.expression[:80]!r} {what}; {next_step}")

    def _checked(self, node: ast.expr) -> Iterator[str]:
        """Yield every column in `node`; raise at the first thing that is no comparison."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str()):
                return
            case ast.BoolOp(values=parts):
                for part in parts:
                    yield from self._checked(part)
            case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
                yield from self._checked(operand)
            case ast.BinOp(op=op, left=left, right=right) if type(op) in _BINARY:
                yield from self._checked(left)
                yield from self._checked(right)
            case ast.Compare(left=left, ops=ops, comparators=others):
                yield from self._checked(left)
                for compare, other in zip(ops, others, strict=True):
                    if isinstance(compare, ast.In | ast.NotIn):
                        self._constants(other)
                    elif type(compare) in _COMPARE:
                        yield from self._checked(other)
                    else:
                        raise self._refused(f"holds {ast.unparse(node)[:40]!r}", _GRAMMAR)
            case ast.Attribute() | ast.Name():
                yield self._column(node)
            case _:
                raise self._refused(f"holds {ast.unparse(node)[:40]!r}", _GRAMMAR)

    def _constants(self, node: ast.expr) -> list[Any]:
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            try:
                return [ast.literal_eval(element) for element in node.elts]
            except ValueError:
                pass
        raise self._refused(f"looks `in` {ast.unparse(node)[:40]!r}", "look in a list: in ['a']")

    def _column(self, node: ast.expr) -> str:
        name = self._dotted(node)
        columns = [str(column) for column in self.frame.columns]
        if name not in columns:
            raise self._refused(
                f"names a column `{name}`, which is missing{nearest(name, columns)}", "correct it"
            )
        return name

    def _dotted(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                return self._quoted.get(name, name)
            case ast.Attribute(value=owner, attr=name):
                return f"{self._dotted(owner)}.{name}"
        raise self._refused(f"holds {ast.unparse(node)[:40]!r}", _GRAMMAR)

    def _value(self, node: ast.expr) -> Any:
        """Compute `node`: an array with one value per row, or a constant."""
        match node:
            case ast.Constant(value=value):
                return value
            case ast.BoolOp(op=op, values=parts):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return join.reduce([self._truth(part) for part in parts])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self._truth(operand)
            case ast.UnaryOp(op=op, operand=operand):
                value = _numbers(self._value(operand))
                return -value if isinstance(op, ast.USub) else value
            case ast.BinOp(op=operation, left=left, right=right):
                values = _numbers(self._value(left)), _numbers(self._value(right))
                if isinstance(operation, ast.Div | ast.FloorDiv | ast.Mod):
                    self._refuse_zeros(node, right, values[1])
                with np.errstate(all="ignore"):
                    return _BINARY[type(operation)](*values)
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._comparison(left, ops, others)
        return self.frame[self._column(node)].to_numpy()

    def _refuse_zeros(self, node: ast.expr, divisor: ast.expr, values: Any) -> None:
        """Refuse to divide by zero: infinity and NaN would be compared like numbers."""
        zero = np.broadcast_to(np.asarray(values) == 0, len(self.frame))
        if not zero.any():
            return
        lines = self.frame.get("source_line", pd.Series(np.arange(2, len(zero) + 2)))
        shown = ", ".join(str(line) for line in lines.to_numpy()[zero][:SHOWN_LINES])
        raise self._refused(
            f"divides by zero in {ast.unparse(node)[:40]!r}: `{ast.unparse(divisor)[:40]}` is 0 in "
            f"{int(zero.sum())} of {len(zero)} rows (lines {shown})",
            "multiply instead, or leave those rows out first",
        )

    def _truth(self, node: ast.expr) -> np.ndarray:
        value = self._value(node)
        if isinstance(value, np.ndarray) and value.dtype == bool:
            return value
        raise self._refused(
            f"takes {ast.unparse(node)[:40]!r} for yes or no", "compare it with something"
        )

    def _comparison(
        self, left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr]
    ) -> np.ndarray:
        """Compute `a < b <= c`, which means `a < b and b <= c`, as in Python."""
        holds = np.ones(len(self.frame), bool)
        value = self._value(left)
        for op, other in zip(ops, others, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                inside = pd.Series(value).isin(self._constants(other)).to_numpy()
                holds = holds & (inside if isinstance(op, ast.In) else ~inside)
                continue
            right = self._value(other)
            holds = holds & _compared(_COMPARE[type(op)], value, right)
            value = right
        return holds


def _numbers(value: Any) -> Any:
    """Return `value` as numbers; what is none becomes NaN."""
    if isinstance(value, np.ndarray):
        return value.astype(float) if value.dtype.kind in "biuf" else _coerced(value)
    if isinstance(value, str):
        raise TypeError(f"{value!r} is no number")
    return value


def _coerced(values: np.ndarray) -> np.ndarray:
    return np.asarray(pd.to_numeric(pd.Series(values), errors="coerce"), dtype=float)


def _compared(compare: Callable[[Any, Any], Any], left: Any, right: Any) -> np.ndarray:
    numeric = any(
        (isinstance(side, int | float) and not isinstance(side, bool))
        or (isinstance(side, np.ndarray) and side.dtype.kind in "iuf")
        for side in (left, right)
    )
    if numeric:
        left, right = _numbers(left), _numbers(right)
    with np.errstate(invalid="ignore"):
        return np.asarray(compare(left, right), dtype=bool)
