"""Boxes and segments are read by class, score, image and column, as frames and as streams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.errors import OutputError, UsageError
from cvbatch.results.committed import open_output
from cvbatch.results.elements import iter_detections, iter_segments, open_elements, read_detections, read_segments
from cvbatch.results.list_columns import ElementSelection
from cvbatch.results.predictions import read
from cvbatch.results.streaming import RowSelection, iter_rows
from cvbatch.tasks import DETECTION
from tests.results.sql.samples import BOXES, REGIONS, commit_block, run_with_boxes
from tests.samples import planned, spec, started


@pytest.fixture
def output(tmp_path: Path) -> str:
    """See `run_with_boxes`."""
    return str(run_with_boxes(tmp_path).store.root)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(0, "a"), (0, "b"), (3, "b")]),
        ({"min_score": 0.5}, [(0, "a"), (0, "b")]),
        ({"classes": ["b"]}, [(0, "b"), (3, "b")]),
        ({"classes": [0]}, [(0, "a")]),
        ({"classes": ["b"], "min_score": 0.3}, [(0, "b")]),
        ({"where": "width > 8"}, [(3, "b")]),
        ({"where": "status = 'error'"}, []),
    ],
)
def test_boxes_are_selected(output: str, options: dict[str, Any], expected: list[tuple[int, str]]) -> None:
    frame = read_detections(output, columns=["row_id", "label"], **options)
    assert list(frame.itertuples(index=False, name=None)) == expected
    tables = list(iter_detections(output, batch_rows=1, **options))
    assert sorted(row for table in tables for row in table["row_id"].to_pylist()) == [row for row, _ in expected]


def test_columns_of_boxes_and_of_images(output: str) -> None:
    frame = read_detections(output, columns=["x_max", "width", "source_removed", "score"], classes=["b"])
    assert frame.to_dict("list") == {
        "x_max": [6, 2],
        "width": [8, 16],
        "source_removed": [False, False],
        "score": [0.5, 0.25],
    }


def test_the_position_of_a_box_in_its_image_survives_a_selection(output: str) -> None:
    frame = read_detections(output, columns=["row_id", "element_index"], classes=["b"])
    assert frame.to_dict("list") == {"row_id": [0, 3], "element_index": [1, 0]}


def test_segments_are_selected_by_area(output: str) -> None:
    assert read_segments(output, min_area=0.3)["mask"].tolist() == [b"m1"]
    tables = iter_segments(output, columns=["area", "mask"], classes=["a"])
    assert pa.concat_tables(tables).to_pydict() == {"area": [0.25], "mask": [b"m0"]}


def test_frames_are_in_the_order_of_the_plan_after_a_retry(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, 4, BOXES, REGIONS)
    log = started(store, 4)
    for low in (2, 0):
        labels, ids = [["a", "b"], ["b"]], [[0, 2], [2]]
        boxes = [[[0, 0, 1, 1], [0, 0, 2, 2]], [[0, 0, 1, 1]]]
        columns = {"labels": labels, "label_ids": ids, "boxes": boxes, "scores": [[0.9, 0.8], [0.1 * low]]}
        commit_block(log, low, low + 2, **{f"boxes_{name}": values for name, values in columns.items()})
    frame = read_detections(store.root)
    assert frame["row_id"].tolist() == [0, 0, 1, 2, 2, 3]
    assert frame["label"].tolist() == ["a", "b", "b"] * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["scores"]}, "there is no column 'scores'; there are score"),
        ({"classes": ["c"]}, "there is no class 'c'; there are a, b"),
        ({"classes": [1]}, "there is no class 1; expected ids of boxes or names"),
        ({"where": "score > 1"}, "there is no column 'score'"),
    ],
)
def test_a_wrong_request_is_one_line(output: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_detections(output, **options)


def test_several_models_of_a_task_must_be_named(tmp_path: Path) -> None:
    root = planned(tmp_path, 1, BOXES, spec("more", "detection"))[0].root
    with pytest.raises(OutputError, match="has several detection models; name one of boxes, more"):
        read_detections(root)
    with pytest.raises(OutputError, match=r"has no segmentation model; it has \w+ \(\w+\)"):
        read_segments(root)


def test_a_frame_that_does_not_fit_is_refused_in_one_line(output: str) -> None:
    with pytest.raises(OutputError, match=r"does not fit: expected at most .* use open_dataset or iter_detections"):
        read(output, max_bytes=100)
    assert len(read(output, max_bytes=1 << 20)) == 4


def test_tables_have_a_bounded_number_of_elements(output: str) -> None:
    opened = open_output(output)
    elements = open_elements(opened, DETECTION, None, ElementSelection())
    rows = pa.concat_tables(iter_rows(opened, RowSelection(columns=elements.stored_columns())))
    for most, counts in ((1, [2, 1]), (3, [3])):
        tables = list(elements.iter_flattened(rows, most))
        assert [table.num_rows for table in tables] == counts
        assert pa.concat_tables(tables) == elements.flatten(rows)


def test_a_score_that_is_no_number_is_refused(output: str) -> None:
    with pytest.raises(UsageError, match=r"min_score: expected a number such as 0\.5, got nan"):
        read_detections(output, min_score=float("nan"))
