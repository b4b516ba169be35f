"""Conditions on rows, written as in SQL: `status = 'ok' AND width > 1000`."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cvbatch.errors import UsageError

if TYPE_CHECKING:
    from sqlglot import exp

Where: TypeAlias = str | pads.Expression | None
"""A condition: as in SQL, as an Arrow expression, or none."""

_SEPARATOR: Final = "\x1f"
"""Between the elements of a list that is searched: Unicode's unit separator, which no label contains."""
_SUPPORTED: Final = (
    "AND, OR, NOT, =, <>, <, <=, >, >=, IN, BETWEEN, LIKE, ILIKE, IS NULL, +, -, *, /, lower(), upper(), length(), "
    "list_contains()"
)


def parse_where(where: Where, schema: pa.Schema) -> pads.Expression | None:
    """Parse a condition on rows.

    Args:
        where: As in SQL: `status = 'ok'`, `image_uri LIKE '%/cats/%'`, `list_contains(detection_labels, 'dog')`,
            `length(detection_boxes) > 10`. An Arrow expression, or None, is returned as it is.
        schema: The columns that may be used.

    Raises:
        UsageError: If it cannot be parsed, or uses an unknown column or something that is not supported.
    """
    return _Translator(where, schema).parse() if isinstance(where, str) else where


def check_names(what: str, wanted: Iterable[str], known: Sequence[str]) -> None:
    """Check that names exist.

    Args:
        what: What they name, such as `column`.
        wanted: The names.
        known: All names that exist.

    Raises:
        UsageError: If one does not exist; the message has similar names.
    """
    for name in wanted:
        if name not in known:
            raise UsageError(unknown_name(what, name, known))


def check_min_score(value: float | None) -> None:
    """Check that a lowest score is a number.

    Raises:
        UsageError: If it is NaN, with which nothing compares.
    """
    if value is not None and math.isnan(value):
        raise UsageError("min_score: expected a number such as 0.5, got nan; None takes all scores")


def check_group_column(name: str, schema: pa.Schema) -> None:
    """Check that images can be grouped by a column.

    Raises:
        UsageError: If there is no such column, or if it has several values for an image.
    """
    check_names("column", [name], schema.names)
    kind = schema.field(name).type
    if pa.types.is_nested(kind):
        raise UsageError(f"--by {name}: expected a column with one value for each image, got {kind}")


def unknown_name(what: str, name: str, known: Sequence[str]) -> str:
    """A message about a name that does not exist, with similar ones, or the first of all."""
    near = difflib.get_close_matches(name, known, 5) or list(dict.fromkeys(known))[:20]
    return f"there is no {what} {name!r}; there {'is' if len(near) == 1 else 'are'} {', '.join(near) or 'none'}"


class _Translator:
    """Turns the syntax tree of one condition into an Arrow expression."""

    def __init__(self, text: str, schema: pa.Schema) -> None:
        self._text, self._schema = text, schema

    def parse(self) -> pads.Expression:
        """Parse the text and check that it says yes or no."""
        import sqlglot

        try:
            expression = self._translate(sqlglot.parse_one(self._text, dialect="duckdb"))
            result_type = pads.dataset(self._schema.empty_table()).scanner(columns={"result": expression})
        except sqlglot.errors.SqlglotError:
            raise self._error("it cannot be parsed; expected for example status = 'ok' AND width > 1000") from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise self._error(f"the types do not fit ({str(error).splitlines()[0]})") from None
        if not pa.types.is_boolean(result_type.projected_schema.field(0).type):
            raise self._error("expected something that is true or false, such as status = 'ok'")
        return expression

    def _translate(self, node: exp.Expr) -> pads.Expression:
        from sqlglot import exp

        if unknown := {name for name, value in node.args.items() if value} - _known_arguments(node):
            raise self._error(f"{', '.join(sorted(unknown))} in {node.sql('duckdb')} is not supported")
        match node:
            case exp.Paren():
                return self._translate(node.this)
            case exp.Column():
                return pads.field(self._field(node).name)
            case exp.Literal() | exp.Boolean() | exp.Null() | exp.Neg(this=exp.Literal()):
                return pads.scalar(self._value(node))
            case exp.Is(expression=exp.Null()):
                return self._translate(node.this).is_null()
            case exp.In(this=column, expressions=[_, *_]):
                return self._translate(column).isin([self._value(value, column) for value in node.expressions])
            case exp.Between(this=column):
                low, high = (pads.scalar(self._value(node.args[name], column)) for name in ("low", "high"))
                return (self._translate(column) >= low) & (self._translate(column) <= high)
            case exp.Like() | exp.ILike():
                pattern, ignore_case = self._text_value(node.expression), isinstance(node, exp.ILike)
                matches = pc.match_like(self._translate(node.this), pattern, ignore_case=ignore_case)
                return ~matches if node.args.get("negate") else matches
            case exp.ArrayContains():
                joined = pc.binary_join(self._translate(node.this), _SEPARATOR)
                framed = pc.binary_join_element_wise(pads.scalar(""), joined, pads.scalar(""), _SEPARATOR)
                return pc.match_substring(framed, f"{_SEPARATOR}{self._text_value(node.expression)}{_SEPARATOR}")
            case exp.Length() | exp.ArraySize():
                operand = self._translate(node.this)
                is_list = isinstance(node.this, exp.Column) and pa.types.is_list(self._field(node.this).type)
                return pc.list_value_length(operand) if is_list else pc.utf8_length(operand)
        function = _functions().get(type(node))
        if function is None:
            raise self._error(f"{node.sql('duckdb')} is not supported; supported are {_SUPPORTED}")
        parts = [part for part in (node.this, node.args.get("expression")) if part is not None]
        return function(*(self._operand(part, parts) for part in parts))

    def _operand(self, part: exp.Expr, parts: list[exp.Expr]) -> pads.Expression:
        """One side of an operator; text that is compared with a time becomes a time."""
        from sqlglot import exp

        if isinstance(part, exp.Literal):
            columns = [other for other in parts if isinstance(other, exp.Column)]
            return pads.scalar(self._value(part, columns[0] if columns else None))
        return self._translate(part)

    def _value(self, node: exp.Expr, compared_with: exp.Expr | None = None) -> Any:
        """The value of a literal."""
        from sqlglot import exp

        if not isinstance(node, exp.Literal | exp.Boolean | exp.Null | exp.Neg):
            raise self._error(f"expected a number or text in single quotes, got {node.sql('duckdb')}")
        if isinstance(node, exp.Literal) and node.is_string and isinstance(compared_with, exp.Column):
            kind = self._field(compared_with).type
            if pa.types.is_timestamp(kind):
                try:
                    return pa.scalar(datetime.fromisoformat(node.this), kind)
                except ValueError:
                    raise self._error(f"expected a time such as '2026-01-31 12:00', got {node.this!r}") from None
        return node.to_py()

    def _text_value(self, node: exp.Expr) -> str:
        value = self._value(node)
        if not isinstance(value, str):
            raise self._error(f"expected text in single quotes, got {value}")
        return value

    def _field(self, node: exp.Column) -> pa.Field:
        if node.name in self._schema.names:
            return self._schema.field(node.name)
        hint = " (text is written in single quotes)" if node.this.args.get("quoted") else ""
        raise self._error(unknown_name("column", node.name, self._schema.names) + hint)

    def _error(self, problem: str) -> UsageError:
        return UsageError(f"the condition {self._text!r}: {problem}")


def _known_arguments(node: exp.Expr) -> set[str]:
    """Arguments of a node that are translated; a newer parser may give more, which must not be lost."""
    from sqlglot import exp

    negation = {"negate"} if isinstance(node, exp.Like | exp.ILike) else set[str]()
    return {"this", "expression", "expressions", "low", "high", "is_string"} | negation


@cache
def _functions() -> Mapping[type, Callable[..., pads.Expression]]:
    """The Arrow function of each operator."""
    from sqlglot import exp

    return {
        exp.And: operator.and_,
        exp.Or: operator.or_,
        exp.Not: operator.invert,
        exp.EQ: operator.eq,
        exp.NEQ: operator.ne,
        exp.GT: operator.gt,
        exp.GTE: operator.ge,
        exp.LT: operator.lt,
        exp.LTE: operator.le,
        exp.Add: operator.add,
        exp.Sub: operator.sub,
        exp.Mul: operator.mul,
        exp.Div: operator.truediv,
        exp.Lower: pc.utf8_lower,
        exp.Upper: pc.utf8_upper,
    }
