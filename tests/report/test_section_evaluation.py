"""An evaluation on the page: the kinds of mistake and the cells of the confusion open the right images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvbatch.errors import UsageError
from cvbatch.report.collect import ReportOptions, collect_page_data
from cvbatch.report.folder import place_report
from cvbatch.report.page import render_page
from cvbatch.report.page_data import AnswerSection, PageData
from cvbatch.results.committed import open_output
from tests.evaluation.test_segmentation import ANSWERS, MODEL, TRUTH, segment_run, write_masks
from tests.report.runs import NASTY, SIZE, SmallRun, small_run

NAMES = [f"{row:02d}.jpg".encode() for row in range(8)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Row r has a box of class r % 4 in the middle; rows 0 and 4 have a dog at the corner, too."""
    return small_run(tmp_path_factory.mktemp("run"), NAMES)


def write_coco(folder: Path, objects: list[tuple[int, str, list[float]]], name: str = "truth.json") -> str:
    """Truth of boxes: row, class, and x, y, width, height in pixels."""
    truth = {
        "images": [
            {"id": row, "file_name": name.decode(), "width": SIZE[0], "height": SIZE[1]}
            for row, name in enumerate(NAMES)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": row,
                "category_id": NASTY.index(label),
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, (row, label, box) in enumerate(objects, 1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(NASTY)],
    }
    path = folder / name
    path.write_text(json.dumps(truth))
    return str(path)


def collect(output: str, **options: Any) -> PageData:
    opened = open_output(output)
    return collect_page_data(opened, place_report(opened, None), ReportOptions(**options)).data


MIDDLE = [16.0, 12.0, 32.0, 24.0]
OBJECTS: list[tuple[int, str, list[float]]] = [
    *((row, NASTY[row % 4], MIDDLE) for row in (0, 1, 2, 3)),
    (4, "cat", [30, 12, 32, 24]),
    (5, "cat", MIDDLE),
    (7, "dog", MIDDLE),
    (7, "cat", [0, 0, 12, 12]),
]


@pytest.fixture(scope="module")
def section(run: SmallRun, tmp_path_factory: pytest.TempPathFactory) -> AnswerSection:
    (section,) = [
        answer
        for answer in collect(run.output, truth=write_coco(tmp_path_factory.mktemp("truth"), OBJECTS)).answers
        if answer.name == "evaluation"
    ]
    return section


def test_mistakes_have_their_kind_and_their_boxes(section: AnswerSection) -> None:
    assert section.title == "Evaluation: boxes, boxes"
    assert section.kinds is not None
    shown = {
        group.title: [
            (one.row_id, one.truth and one.truth.label, one.answer and one.answer.label) for one in group.mistakes
        ]
        for group in section.kinds.groups
    }
    assert shown["missed"] == [(7, "cat", None)]
    assert shown["wrong class"] == [(5, "cat", "__proto__")]
    assert shown["badly placed"] == [(4, "cat", "cat")]
    assert shown["nothing there"] == [(6, None, "</script><b>"), (4, None, "dog")]
    (placed,) = next(group for group in section.kinds.groups if group.title == "badly placed").mistakes
    assert placed.truth is not None
    assert placed.answer is not None
    assert placed.truth.box == (0.4688, 0.25, 0.9688, 0.75)
    assert placed.answer.box == (0.25, 0.25, 0.75, 0.75)
    assert placed.overlap == pytest.approx(18 / 46, abs=1e-3)
    counts = {row[0]: row[1:3] for row in section.kinds.table.rows}
    assert counts["missed"] == [1, 1]
    assert counts["nothing there"] == [2, 3], "the weakest box is wrong and costs nothing"


def test_masks_have_outlines(run: SmallRun, tmp_path: Path) -> None:
    """The mask of the truth ends in the middle of the mask that was answered."""
    path = Path(write_coco(tmp_path, [(row, NASTY[row % 4], MIDDLE) for row in range(8)]))
    truth = json.loads(path.read_text())
    for part in truth["annotations"]:
        right = 30 if part["image_id"] == 7 else 48
        part["segmentation"] = [[16, 12, right, 12, right, 36, 16, 36]]
    path.write_text(json.dumps(truth))
    boxes, masks = [answer for answer in collect(run.output, truth=str(path)).answers if answer.name == "evaluation"]
    assert (boxes.title, masks.title) == ("Evaluation: boxes, boxes", "Evaluation: boxes, masks")
    assert boxes.kinds is not None
    assert masks.kinds is not None
    assert "badly placed" not in {group.title for group in boxes.kinds.groups}
    (placed,) = next(group for group in masks.kinds.groups if group.title == "badly placed").mistakes
    assert placed.truth is not None
    assert placed.answer is not None
    assert placed.overlap == pytest.approx(14 / 32, abs=1e-3)
    for element, right in ((placed.truth, 30 / 64), (placed.answer, 0.75)):
        (outline,) = element.outline
        assert (min(outline[::2]), max(outline[::2])) == pytest.approx((0.25, right), abs=0.001)


def test_cells_of_the_confusion_open_mistakes(section: AnswerSection) -> None:
    (matrix,) = section.matrices
    names = matrix.rows
    assert names == [*sorted(NASTY), "(nothing)"]
    cells = {
        (names[row], names[column]): [one.row_id for one in matrix.mistakes[f"{row},{column}"]]
        for row, column in (map(int, cell.split(",")) for cell in matrix.mistakes)
    }
    assert cells[("cat", "__proto__")] == [5]
    assert cells[("dog", "dog")] == [7, 3]
    assert cells[("cat", "(nothing)")] == [4, 7]
    assert cells[("(nothing)", "dog")] == [4]
    assert sum(map(sum, matrix.values[:-1])) == len(OBJECTS), "each object is in one cell"
    assert matrix.values[names.index("cat")][names.index("__proto__")] == 1


def test_a_model_that_the_truth_is_not_about_is_named(section: AnswerSection) -> None:
    (note,) = [note for note in section.notes if note.startswith("tags is not evaluated: ")]
    assert "truth.json" in note


def test_names_in_an_evaluation_are_only_texts(run: SmallRun, tmp_path: Path) -> None:
    name = '"><img src=x onerror=alert(1)>.json'
    page = render_page(collect(run.output, truth=write_coco(tmp_path, OBJECTS, name)))
    assert "<img src=x" not in page
    assert "</script><b>" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;.json" in page, "the note names the file"
    assert "__proto__" in page


def test_truth_that_fits_no_model_is_one_line(run: SmallRun, tmp_path: Path) -> None:
    (tmp_path / "truth.txt").write_text("nothing")
    with pytest.raises(UsageError, match=r"tags is not evaluated: .*; boxes is not evaluated: ") as caught:
        collect(run.output, truth=str(tmp_path / "truth.txt"))
    assert "\n" not in str(caught.value)


def test_weak_answers_are_counted_and_not_shown(tmp_path: Path, run: SmallRun) -> None:
    """From the score of the best F1 on there are fewer answers than those that the AP counts."""
    truth = write_coco(tmp_path, [(7, "dog", MIDDLE), (6, NASTY[2], MIDDLE)])
    kinds = collect(run.output, truth=truth).answers[0].kinds
    assert kinds is not None
    (counts,) = [row[1:3] for row in kinds.table.rows if row[0] == "nothing there"]
    assert counts == [0, 8]
    assert kinds.table.columns[1] == "from score 0.891"
    assert kinds.groups == []


def test_labels_have_a_confusion_and_a_calibration(run: SmallRun, tmp_path: Path) -> None:
    labels = ["cat", "cat", *(NASTY[row % 4] for row in range(2, 8))]
    lines = [f"{name.decode()},{label}" for name, label in zip(NAMES, labels, strict=True)]
    (tmp_path / "truth.csv").write_text("\n".join(["image,label", *lines]))
    section, *_ = collect(run.output, truth=str(tmp_path / "truth.csv")).answers
    (matrix,), (plot,) = section.matrices, section.plots
    names = matrix.rows
    assert names == sorted(NASTY)
    assert matrix.examples[f"{names.index('cat')},{names.index('__proto__')}"] == [1]
    assert [(group.title, group.row_ids) for group in section.groups] == [("cat taken for __proto__: 1 image", [1])]
    answers = plot.lines["this model"]
    assert [right for _, right in answers] == [1.0 if row != 1 else 0.0 for row in range(8)]
    assert answers[0][0] == pytest.approx(0.3)


def test_segments_are_confused_by_pixels(tmp_path: Path) -> None:
    output = segment_run(tmp_path / "run", MODEL, ANSWERS)
    (section,) = collect(output, truth=write_masks(tmp_path / "masks", TRUTH)).answers
    (matrix,) = section.matrices
    names = matrix.rows
    truth, answers = np.stack(TRUTH), np.stack(ANSWERS)
    assert names == ["background", "cow", "grass", "sky"]
    expected = 100 * np.mean(answers[truth == 3] == 1)
    assert matrix.values[names.index("cow")][names.index("sky")] == pytest.approx(expected, abs=0.01)
    assert np.sum(matrix.values, axis=1) == pytest.approx(np.full(4, 100), abs=0.05)
    cell = matrix.examples[f"{names.index('cow')},{names.index('sky')}"]
    pixels = ((truth == 3) & (answers == 1)).sum(axis=(1, 2))
    assert cell == np.argsort(-pixels, kind="stable")[: min(4, np.count_nonzero(pixels))].tolist()
    assert section.groups[0].title.endswith(" pixels")
