"""Conditions as in SQL select the rows that SQL would, and what is wrong is said in one line."""

from __future__ import annotations

import datetime

import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from cvbatch.errors import UsageError
from cvbatch.results.where import parse_where

TABLE = pa.table(
    {
        "name": ["x/cat/1", "y", "z"],
        "status": ["ok", "error", "ok"],
        "width": [1, 2, None],
        "labels": pa.array([["dog", "a b"], ["cat"], None]),
        "taken": pa.array([datetime.datetime(1970, 1, 1), datetime.datetime(2001, 9, 9), None], pa.timestamp("ms")),
        "is_new": [True, False, None],
    }
)


def selected(where: str) -> list[str]:
    names: list[str] = pads.dataset(TABLE).to_table(filter=parse_where(where, TABLE.schema))["name"].to_pylist()
    return names


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("status = 'ok'", "xz"),
        ("status <> 'ok' OR width = 1", "xy"),
        ("NOT status = 'ok'", "y"),
        ("(width > 1 OR width < 2) AND status = 'ok'", "x"),
        ("width BETWEEN 1 AND 1", "x"),
        ("-1 < width", "xy"),
        ("width * 2 - 1 >= 3", "y"),
        ("width IN (1, 3)", "x"),
        ("status NOT IN ('ok')", "y"),
        ("name LIKE '%/cat/%'", "x"),
        ("name ILIKE '%CAT%'", "x"),
        ("name NOT LIKE 'x%'", "yz"),
        ("name NOT ILIKE 'X%'", "yz"),
        ("width NOT BETWEEN 2 AND 3", "x"),
        ("width IS NULL", "z"),
        ("width IS NOT NULL", "xy"),
        ("is_new", "x"),
        ("is_new = true", "x"),
        ("lower(status) = 'error'", "y"),
        ("length(name) > 3", "x"),
        ("length(labels) = 1", "y"),
        ("list_contains(labels, 'dog')", "x"),
        ("list_contains(labels, 'a')", ""),
        ("list_contains(labels, 'a b')", "x"),
        ("taken >= '2001-01-01'", "y"),
        ("taken BETWEEN '1970-01-01' AND '1970-12-31 23:59'", "x"),
    ],
)
def test_conditions_select_what_sql_would(where: str, names: str) -> None:
    assert [name[0] for name in selected(where)] == list(names)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", "it cannot be parsed; expected for example"),
        ("status =", "it cannot be parsed"),
        ("status = 'ok", "it cannot be parsed"),
        ("staus = 'ok'", "there is no column 'staus'; there is status"),
        ('status = "ok"', "there is no column 'ok'.*text is written in single quotes"),
        ("width", "expected something that is true or false"),
        ("width = 'a'", "the types do not fit"),
        ("max(width) > 1", "is not supported; supported are AND, OR"),
        ("status = 'ok'; DROP TABLE images", "is not supported"),
        ("list_contains(labels, 5)", "expected text in single quotes, got 5"),
        ("images.width > 1", "table in images.width is not supported"),
        ("width IN (SELECT 1)", "query in width IN .SELECT 1. is not supported"),
        ("status IN (width)", "expected a number or text in single quotes, got width"),
        ("taken > 'noon'", "expected a time such as '2026-01-31 12:00', got 'noon'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        parse_where(where, TABLE.schema)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(f"the condition {where!r}: ")


def test_expressions_of_arrow_pass() -> None:
    expression = pads.field("width") == 1
    assert parse_where(expression, TABLE.schema) is expression
    assert parse_where(None, TABLE.schema) is None
