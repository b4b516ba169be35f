"""What all formats share: who takes part, how images are named, and what a wrong request gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.dataset as pads
import pytest

from cvbatch.cli.answers.export_command import _render_report
from cvbatch.errors import OutputError, UsageError
from cvbatch.export.base import EXPORTERS, FormatOptions
from cvbatch.export.exporting import export_predictions
from cvbatch.repeats.repeats import find_repeats
from tests.export.runs import BOXES, SEGMENTS, box_columns, make_run, segment_columns

DOG = (1, 0.9, (1.5, 2, 11.5, 22))
CAT = (5, 0.4, (3, 4, 5, 8))


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Images with two boxes, none, an error, and one box."""
    columns = box_columns([[DOG, CAT], [], None, [CAT]])
    return make_run(tmp_path, (BOXES, columns), names=["a/x.jpg", "a/y.jpg", "b/x.jpg", "b/z.png"], failed=[2])


def test_failed_images_are_left_out_and_counted_and_those_without_boxes_stay(output: str, tmp_path: Path) -> None:
    report = export_predictions(output, "coco", str(tmp_path / "new" / "labels.json"))
    assert (report.images, report.elements, report.failed, report.not_labelled) == (3, 3, 1, 0)
    written = json.loads((tmp_path / "new" / "labels.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["a/x.jpg", "a/y.jpg", "b/z.png"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["labels.json"]


@pytest.mark.parametrize(
    ("asked", "boxes"),
    [
        ({"classes": ["cat"]}, 2),
        ({"min_score": 0.5}, 1),
        ({"where": "image_uri LIKE '%/b/%'"}, 1),
        ({"classes": [1], "min_score": 0.95}, 0),
    ],
)
def test_boxes_are_chosen(output: str, tmp_path: Path, asked: dict[str, Any], boxes: int) -> None:
    assert export_predictions(output, "coco", str(tmp_path / "labels.json"), **asked).elements == boxes


def test_boxes_that_repeat_are_left_out(tmp_path: Path) -> None:
    stone = (1, 0.5, (40, 30, 60, 45))
    output = make_run(tmp_path, (BOXES, box_columns([[CAT, stone] if index else [stone] for index in range(4)])))
    repeats = find_repeats(output, images=3, max_area=1, sheet=False, to=str(tmp_path / "repeats.parquet"))
    suspects = repeats.read()
    assert suspects["label"].value_counts().to_dict() == {"dog": 4, "cat": 3}
    kept = pd.read_parquet(repeats.path).query("label == 'dog'")  # a person has found that the cat is real
    kept.to_parquet(repeats.path)
    written = tmp_path / "labels.json"
    report = export_predictions(output, "coco", str(written), without_repeats=repeats.path)
    assert (report.images, report.elements, report.repeats) == (4, 3, 4)
    assert "4 labels left out as repeats" in _render_report(report).plain
    labels = {box["category_id"] for box in json.loads(written.read_text())["annotations"]}
    assert labels == {CAT[0]}


def test_repeats_are_of_boxes_only(tmp_path: Path) -> None:
    output = make_run(tmp_path, (SEGMENTS, segment_columns([[]])))
    with pytest.raises(UsageError, match="without_repeats: expected an export of boxes"):
        export_predictions(output, "coco", str(tmp_path / "x.json"), without_repeats="repeats.parquet")


def test_a_condition_may_be_an_expression_of_arrow(output: str, tmp_path: Path) -> None:
    where = pads.field("row_id") == 0
    assert export_predictions(output, "coco", str(tmp_path / "labels.json"), where=where).images == 1


def test_a_run_that_is_going_on_says_what_is_missing(tmp_path: Path) -> None:
    output = make_run(tmp_path, (BOXES, box_columns([[DOG]])), finished=False)
    report = export_predictions(output, "coco", str(tmp_path / "labels.json"))
    assert (report.images, report.not_labelled) == (1, 1)


def test_the_first_task_of_the_format_is_taken_and_another_by_its_alias(tmp_path: Path) -> None:
    output = make_run(tmp_path, (SEGMENTS, segment_columns([[]])), (BOXES, box_columns([[DOG]])))
    assert export_predictions(output, "coco", str(tmp_path / "a.json")).model == "boxes"
    with pytest.raises(OutputError, match="has no detection model 'other'; it has boxes"):
        export_predictions(output, "coco", str(tmp_path / "b.json"), model="other")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cocoo", FormatOptions(), "there is no format 'cocoo'; there is coco"),
        ("coco", FormatOptions(image_prefix="x"), "the format coco does not take image_prefix; it takes masks"),
    ],
)
def test_a_wrong_request_is_one_line(
    output: str, tmp_path: Path, name: str, options: FormatOptions, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        export_predictions(output, name, str(tmp_path / "x"), options=options)


def test_nothing_is_overwritten_and_nothing_half_written_stays(output: str, tmp_path: Path) -> None:
    target = tmp_path / "labels.json"
    with pytest.raises(UsageError, match="there is no column"):
        export_predictions(output, "coco", str(target), where="depth > 1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]
    target.write_text("mine")
    with pytest.raises(OutputError, match="exists: expected a new file"):
        export_predictions(output, "coco", str(target))
    with pytest.raises(UsageError, match="is the run itself"):
        export_predictions(output, "coco", output)
    assert target.read_text() == "mine"


def test_each_format_can_be_loaded() -> None:
    assert [name for name, row in EXPORTERS.items() if not row.load_exporter().__doc__] == []
