"""A view reads what a query names, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset as pads
import pytest

from cvbatch.errors import StorageError
from cvbatch.results.sql.view_dataset import ViewDataset, ViewSource, columns_of_condition

ROWS = pa.table({"a": range(6), "b": list("uvwxyz"), "heavy": ["…"] * 6, "late": [True, False] * 3})
Request = tuple[Sequence[str], bool]


@pytest.fixture
def requests() -> list[Request]:
    return []


@pytest.fixture
def connection(requests: list[Request]) -> Iterator[Any]:
    """Has a view of `ROWS`, which notes what is read from it; conditions on `late` cannot be applied early."""

    def read(columns: Sequence[str], where: pads.Expression | None) -> Iterator[pa.Table]:
        requests.append((columns, where is not None))
        yield (ROWS if where is None else ROWS.filter(where)).select(columns)

    with duckdb.connect() as connection:
        connection.register("v", ViewDataset(ViewSource(ROWS.schema, frozenset({"a", "b"}), read)))
        yield connection


@pytest.mark.parametrize(
    ("query", "rows", "requested"),
    [
        ("SELECT count(*) FROM v", [(6,)], (["a"], False)),
        ("SELECT b FROM v WHERE a > 3", [("y",), ("z",)], (["b"], True)),
        ("SELECT b FROM v WHERE b = 'w' AND a = 2", [("w",)], (["b"], True)),
        ("SELECT a FROM v WHERE late = (a = 99) AND b IN ('v', 'w')", [(1,)], (["a", "late"], True)),
        ("SELECT b FROM v WHERE a < 3 AND late IS NOT NULL AND heavy = '…' AND b > 'u'", [("v",), ("w",)], None),
    ],
)
def test_columns_and_conditions_reach_the_reader(
    connection: Any, requests: list[Request], query: str, rows: list[tuple[Any]], requested: Request | None
) -> None:
    assert connection.sql(query).fetchall() == rows
    if requested is not None:
        assert requests == [requested]


def test_a_condition_on_what_is_added_later_is_applied_after_reading(requests: list[Request]) -> None:
    def read(columns: Sequence[str], where: pads.Expression | None) -> Iterator[pa.Table]:
        requests.append((columns, where is not None))
        yield ROWS.select(columns)

    view = ViewDataset(ViewSource(ROWS.schema, frozenset({"a"}), read))
    condition = (pads.field("a") > 1) & (pads.field("b") < "y")
    assert view.scanner(columns=["heavy", "a"], filter=condition).to_table().to_pydict() == {
        "heavy": ["…", "…"],
        "a": [2, 3],
    }
    assert requests == [(["heavy", "a", "b"], False)]


def test_the_columns_of_a_condition() -> None:
    condition = (pads.field("a").isin([1, 2]) & (pads.field("b") == "heavy")) | pads.field("late")
    assert columns_of_condition(condition, ROWS.schema) == {"a", "b", "late"}


def test_why_a_scan_ended_is_kept() -> None:
    def read(columns: Sequence[str], where: pads.Expression | None) -> Iterator[pa.Table]:
        yield ROWS.select(columns)
        raise StorageError("the bucket is gone")

    view = ViewDataset(ViewSource(ROWS.schema, frozenset(), read))
    with duckdb.connect() as connection:
        relation = connection.register("v", view).sql("SELECT sum(a) FROM v")
        with pytest.raises(duckdb.Error):
            relation.fetchall()
    assert str(view.failure) == "the bucket is gone"
