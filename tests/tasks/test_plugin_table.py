"""Our own rows, and rows of other packages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from cvbatch.errors import UsageError
from cvbatch.tasks.plugin_table import PluginTable

MODULE = """
from tests.tasks.test_plugin_table import Row

class Right(Row):
    def __init__(self):
        super().__init__("right")

class Misnamed(Row):
    def __init__(self):
        super().__init__("another")

def stranger():
    return "no row"

def failing():
    raise OSError("no such device")
"""
ENTRIES = """
[rows]
right = rows_of_others:Right
misnamed = rows_of_others:Misnamed
stranger = rows_of_others:stranger
failing = rows_of_others:failing
missing = rows_of_others:Missing
ours = rows_of_others:Right
"""


@dataclass
class Row:
    name: str


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PluginTable[Row]:
    (tmp_path / "rows_of_others.py").write_text(MODULE)
    about = tmp_path / "rows_of_others-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: rows-of-others\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(tmp_path)
    return PluginTable("rows", Row, [Row("ours")])


def test_our_rows_come_first_and_are_not_replaced(table: PluginTable[Row]) -> None:
    assert list(table) == ["ours", "right", "misnamed", "stranger", "failing", "missing"]
    assert len(table) == 6
    assert type(table["ours"]) is Row


def test_our_rows_are_listed_without_loading_others(table: PluginTable[Row]) -> None:
    assert table.own_rows() == [Row("ours")]


def test_a_row_of_another_package_is_made_once(table: PluginTable[Row]) -> None:
    assert "right" in table
    assert table["right"].name == "right"
    assert table["right"] is table["right"]


def test_there_is_no_other_row(table: PluginTable[Row]) -> None:
    assert "wrong" not in table
    assert table.get("wrong") is None
    with pytest.raises(KeyError, match="wrong"):
        table["wrong"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("misnamed", "expected a subclass of Row whose name is 'misnamed', got Misnamed"),
        ("stranger", "expected a subclass of Row whose name is 'stranger', got 'no row'"),
        ("failing", "OSError: no such device"),
        ("missing", "AttributeError: .*Missing"),
    ],
)
def test_errors_name_the_faulty_package(table: PluginTable[Row], name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"entry point {name} = rows_of_others:.* in the group rows: {message}"):
        table[name]
