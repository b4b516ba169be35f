"""`cvbatch sql` as a person calls it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from cvbatch.cli.parser import main
from tests.results.sql.samples import run_with_boxes


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(run_with_boxes(tmp_path).store.root)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["sql", *arguments]) == 0
    return capsys.readouterr().out


def test_the_views_are_listed(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(printed(capsys, output, "--json"))["views"]
    assert list(listed) == ["images", "detections", "segments"]
    assert listed["detections"]["score"] == "float"
    assert "segments" in printed(capsys, output)


def test_rows_are_limited_for_people_and_complete_for_programs(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    sql = "SELECT range AS number, NULL AS nothing FROM range(41)"
    text = printed(capsys, output, sql)
    assert "│     39 │" in text
    assert "│     40 │" not in text
    assert "the first 40 rows; --rows N shows more" in text
    answer = json.loads(printed(capsys, output, sql, "--json"))
    assert (len(answer["rows"]), answer["complete"]) == (41, True)
    assert answer["columns"] == {"number": "int64", "nothing": "null"}
    answer = json.loads(printed(capsys, output, sql, "--json", "--rows", "2"))
    assert (answer["rows"], answer["complete"]) == ([{"number": n, "nothing": None} for n in (0, 1)], False)
    assert "no rows" in printed(capsys, output, "SELECT * FROM images WHERE width > 99")


def test_columns_that_do_not_fit_are_named(
    output: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    text = printed(capsys, output, "SELECT row_id, score, label, image_uri, repeat('x', 99) AS more FROM detections")
    assert "1 more columns: more" in text
    assert "0.25" in text
    assert max(map(len, text.splitlines())) <= 60


def test_a_query_from_standard_input_is_written_to_a_file(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT label, area FROM segments ORDER BY area"))
    target = tmp_path / "areas.csv"
    assert printed(capsys, output, "-", "--to", str(target)) == f"the result is in {target}\n"
    assert target.read_text() == "label,area\na,0.25\nb,0.5\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["SELECT * FROM detectons"], "does not exist!; this run has the views images, detections, segments"),
        (["SELECT 1", "--to", "a.xlsx"], "expected a local file that ends in .csv or .parquet, got a.xlsx"),
    ],
)
def test_an_error_is_one_line(
    output: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["sql", output, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
