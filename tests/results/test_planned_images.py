"""The planned rows of any images, and their bytes, wherever in the plan they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbatch.errors import OutputError, RowError
from cvbatch.planning.parts import read_plan_part, write_part
from cvbatch.results import planned_images
from cvbatch.results.committed import OpenedOutput, open_output
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import MOVED_FROM
from tests.samples import photos, planned, started

ROWS = 40
MOVED = [5, 6, 31]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenedOutput:
    """A plan of parts of 7 rows with 2 row groups each; three images have moved."""
    folder = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVBATCH_CHUNK_ROWS", "7")
        store, plan = planned(folder, ROWS)
    rows = pa.concat_tables(read_plan_part(store, part) for part in plan.parts)
    place = photos(folder / "elsewhere", ROWS)
    uris = pa.array([f"{place}/{row:04d}.jpg" for row in MOVED])
    moved = rows.take(pa.array(MOVED))
    moved = moved.append_column(MOVED_FROM, moved["image_uri"])
    moved = moved.set_column(moved.column_names.index("image_uri"), "image_uri", uris)
    ranges = [[5, 7], [31, 32]]
    log = started(store, ROWS)
    log.record_move({"path": write_part(store, moved), "rows": 3, "ranges": ranges, "places": [], "way": {}})
    assert len(plan.parts) == 6
    for path in Path(store.root).glob("_cvbatch/plan/*.plan"):
        pq.write_table(pq.read_table(path), path, row_group_size=4)
    return open_output(store.root)


@settings(deadline=None)
@given(st.lists(st.integers(0, ROWS - 1)), st.integers(1, 9))
def test_each_row_comes_once_with_its_newest_place(opened: OpenedOutput, row_ids: list[int], batch_rows: int) -> None:
    tables = list(PlannedImages(opened).iter_rows(np.array(row_ids, np.int64), batch_rows=batch_rows))
    assert all(1 <= table.num_rows <= batch_rows and table["row_id"].num_chunks == 1 for table in tables)
    uri_of = {row["row_id"]: row["image_uri"] for table in tables for row in table.to_pylist()}
    assert sum(table.num_rows for table in tables) == len(uri_of)
    assert sorted(uri_of) == sorted(set(row_ids))
    assert {row for row, uri in uri_of.items() if "/elsewhere/" in uri} == set(MOVED) & set(row_ids)


def test_only_row_groups_that_are_asked_for_are_read(opened: OpenedOutput, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = list[int]()
    read = pq.ParquetFile.read_row_group
    monkeypatch.setattr(pq.ParquetFile, "read_row_group", lambda file, i: (groups.append(i), read(file, i))[1])
    assert len(list(PlannedImages(opened).iter_rows(np.array([13, 8])))) == 2
    assert groups == [0, 1]


def test_bytes_or_the_reason(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, 30)
    (tmp_path / "photos" / "0007.jpg").unlink()
    data = dict(PlannedImages(open_output(store.root)).iter_bytes(np.arange(29, -1, -1)))
    gone = data.pop(7)
    assert isinstance(gone, RowError)
    assert (gone.stage, gone.type) == ("fetch", "NotFound")
    assert data == {row: b"x" * row for row in range(30) if row not in (0, 7)} | {0: data[0]}


def test_only_a_few_images_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _ = planned(tmp_path, 100)
    fetched = list[int]()
    plan_fetches = planned_images.plan_fetches

    def counted(rows: pa.Table, *options: object) -> list[object]:
        return [lambda fetch=fetch: (fetched.append(1), fetch())[1] for fetch in plan_fetches(rows)]

    monkeypatch.setattr(planned_images, "plan_fetches", counted)
    images = PlannedImages(open_output(store.root)).iter_bytes(np.arange(100))
    next(images)
    assert len(fetched) <= 20
    images.close()  # type: ignore[attr-defined]  # a generator
    assert len(fetched) <= 20


def test_a_row_that_is_not_planned_is_no_silence(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, 3)
    with pytest.raises(OutputError, match="its plan has no image of row_id 3"):
        list(PlannedImages(open_output(store.root)).iter_rows(np.array([1, 3, 5])))
