"""Queries in SQL: answers, errors in one line, and files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import cvbatch
from cvbatch.errors import CorruptionError, OutputError, UsageError
from cvbatch.results.sql.query import SqlQuery, check_target, query_sql
from tests.results.sql.samples import BOXES, commit_block, run_with_boxes
from tests.rigs.objects import ObjectServer
from tests.samples import planned, spec, started


@pytest.fixture
def output(tmp_path: Path) -> str:
    return str(run_with_boxes(tmp_path).store.root)


def answer(output: str, sql: str) -> list[tuple[object, ...]]:
    return list(query_sql(output, sql).itertuples(index=False, name=None))


def test_boxes_come_with_columns_of_their_image(output: str) -> None:
    sql = "SELECT label, width, count(*), sum(row_id) FROM detections WHERE status = 'ok' GROUP BY ALL ORDER BY ALL"
    assert answer(output, sql) == [("a", 8, 1, 0), ("b", 8, 1, 0), ("b", 16, 1, 3)]
    assert answer(output, "SELECT label, area FROM segments WHERE width > 8") == [("b", 0.5)]
    joined = "SELECT row_id, s.label FROM detections d JOIN segments s USING (row_id) WHERE score < 0.3"
    assert answer(output, joined) == [(3, "b")]


def test_answers_are_those_of_pandas(tmp_path: Path) -> None:
    random, rows = np.random.default_rng(0), 400
    store, _ = planned(tmp_path, rows, BOXES)
    log = started(store, rows)
    counts = random.integers(0, 9, rows)
    ids = [random.choice([0, 2], count).tolist() for count in counts]
    for low in range(0, rows, 100):
        part = slice(low, low + 100)
        commit_block(
            log,
            low,
            low + 100,
            models=[BOXES],
            boxes_label_ids=ids[part],
            boxes_labels=[["abb"[index] for index in row] for row in ids[part]],
            boxes_boxes=[random.random((len(row), 4)).tolist() for row in ids[part]],
            boxes_scores=[random.random(len(row)).tolist() for row in ids[part]],
            width=random.integers(1, 4, 100).tolist(),
        )
    frame = cvbatch.read_detections(store.root, columns=["label", "score", "width", "x_min"])
    expected = frame[frame.width > 1].groupby("label", as_index=False).agg(n=("score", "size"), x=("x_min", "max"))
    sql = "SELECT label, count(*) AS n, max(x_min) AS x FROM detections WHERE width > 1 GROUP BY label ORDER BY label"
    pd.testing.assert_frame_equal(query_sql(store.root, sql), expected, check_dtype=False)


def test_own_tables_are_joined(output: str, tmp_path: Path) -> None:
    mine = pd.DataFrame({"row_id": [0, 3], "species": ["lynx", "wolf"]})
    by_frame = query_sql(
        output, "SELECT species, label FROM detections JOIN mine USING (row_id)", tables={"mine": mine}
    )
    mine.to_csv(tmp_path / "mine.csv", index=False)
    by_file = query_sql(output, f"SELECT species, label FROM detections JOIN '{tmp_path}/mine.csv' USING (row_id)")
    assert sorted(by_frame.itertuples(index=False, name=None)) == [("lynx", "a"), ("lynx", "b"), ("wolf", "b")]
    assert sorted(by_frame.species) == sorted(by_file.species)
    with pytest.raises(UsageError, match="a table cannot be called 'images'"):
        query_sql(output, "SELECT 1", tables={"Images": mine})


def test_a_connection_can_do_all_that_duckdb_can(output: str) -> None:
    bound = pd.DataFrame({"least": [0.4]})
    with cvbatch.open_sql(output) as connection:
        assert connection.sql("SELECT count(*) FROM detections, bound WHERE score > least").fetchall() == [(2,)]
        assert len(bound) == 1
        connection.execute("CREATE TABLE kept AS SELECT * FROM images WHERE width >= ?", [8])
        assert connection.sql("SELECT count(*) FROM kept").fetchall() == [(3,)]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT lable FROM detections", r'the query: Binder Error: .*"lable" not found.* "label"'),
        ("SELEC 1", "the query: Parser Error: syntax error .*SELEC"),
        ("SELECT * FROM nope", "nope does not exist!; this run has the views images, detections, segments$"),
        ("SELECT * FROM 'nope.csv'", "the query: IO Error: No files found .*nope.csv"),
        ("SELECT 1; SELECT 2", "expected one query such as .*, got 2"),
        (" ", "expected one query such as .*, got 0"),
        ("COPY images TO 'x.csv'", "expected a query, which only reads, got COPY"),
        ("CREATE TABLE a AS SELECT 1", "expected a query, which only reads, got CREATE"),
        ("SELECT CAST(label AS INT) FROM detections", "the query: Conversion Error"),
    ],
)
def test_a_wrong_query_is_one_line(output: str, sql: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        query_sql(output, sql)
    assert "\n" not in str(caught.value)


def test_views_that_a_run_does_not_have_are_explained(tmp_path: Path) -> None:
    root = planned(tmp_path, 1, BOXES, spec("more", "detection"))[0].root
    assert query_sql(root, "SELECT * FROM images").empty
    views = r"this run has the views images, detections_boxes, detections_more, and no model that gives segments"
    with pytest.raises(UsageError, match=views):
        query_sql(root, "SELECT * FROM detections")


def test_a_missing_file_of_the_run_is_said_as_elsewhere(output: str) -> None:
    next(Path(output, "data").rglob("*.parquet")).unlink()
    with pytest.raises(CorruptionError, match="a committed file is missing"):
        query_sql(output, "SELECT sum(width) FROM images")


def test_a_result_or_a_query_that_does_not_fit_is_refused(output: str) -> None:
    with pytest.raises(OutputError, match="the frame does not fit"):
        query_sql(output, "SELECT range(100000) FROM images", max_bytes=3_000_000)
    with pytest.raises(OutputError, match=r"the query needs more than 0\.02 GB of memory"):
        query_sql(output, "SELECT length(list(a ORDER BY a)) FROM range(9000000) t(a)", max_bytes=20_000_000)


def test_results_of_every_type_become_plain_rows(output: str) -> None:
    sql = (
        "SELECT 1 AS a, 2 AS a, 0.1::FLOAT AS f, 'nan'::DOUBLE AS n, sum(i) AS s, 1.5 AS d, 'm0'::BLOB AS b, "
        "[NULL, 0.5] AS l, {'k': TIMESTAMP '2026-01-31 12:00:00'} AS t, 99999999999999999999::HUGEINT AS h "
        "FROM range(3) r(i)"
    )
    with SqlQuery.open(output, sql) as query:
        (row,), complete = query.first_rows(5)
    assert complete
    assert row == {
        "a": 1,
        "a_1": 2,
        "f": 0.1,
        "n": None,
        "s": 3,
        "d": 1.5,
        "b": "m0",
        "l": [None, 0.5],
        "t": {"k": "2026-01-31 12:00:00"},
        "h": 1e20,
    }


def test_the_first_rows_say_whether_there_are_more(output: str) -> None:
    for limit, complete in ((2, False), (4, True)):
        with SqlQuery.open(output, "SELECT row_id FROM images") as query:
            rows, is_all = query.first_rows(limit)
        assert ([row["row_id"] for row in rows], is_all) == (list(range(limit)), complete)


def test_results_are_written_as_a_whole(output: str, tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        with SqlQuery.open(output, "SELECT row_id, boxes_labels FROM images ORDER BY row_id DESC") as query:
            query.write(str(tmp_path / name))
    assert pd.read_csv(tmp_path / "a.csv").row_id.tolist() == [3, 2, 1, 0]
    assert pq.read_table(tmp_path / "a.parquet")["boxes_labels"].to_pylist() == [["b"], None, [], ["a", "b"]]
    with pytest.raises(UsageError), SqlQuery.open(output, "SELECT error(label) FROM detections") as query:
        query.write(str(tmp_path / "a.csv"))
    assert len(pd.read_csv(tmp_path / "a.csv")) == 4, "the former file stays"
    assert sorted(path.name for path in tmp_path.glob("*a.*")) == ["a.csv", "a.parquet"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a.xlsx", "expected a local file that ends in .csv or .parquet"),
        ("s3://results/a.csv", "expected a local file"),
        ("nowhere/a.csv", "there is no folder nowhere"),
        ("out/data/a.parquet", "expected a file outside the run"),
    ],
)
def test_a_wrong_target_is_one_line(output: str, path: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(output).parent)
    with pytest.raises(UsageError, match=message):
        check_target(path, output)


def test_a_run_in_a_bucket(output: str, out: str, as_job: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [path for path in Path(output).rglob("*") if path.is_file()]
    as_job.put(out, {f"run/{path.relative_to(output).as_posix()}": path.read_bytes() for path in files})
    sql = "SELECT label, count(*) AS n FROM detections GROUP BY label ORDER BY label"
    frame = query_sql(f"s3://{out}/run", sql, storage={"endpoint_url": as_job.endpoint})
    assert frame.to_dict("list") == {"label": ["a", "b"], "n": [1, 2]}
