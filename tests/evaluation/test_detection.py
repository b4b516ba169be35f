"""Numbers of boxes, masks and keypoints equal COCO's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvbatch.errors import UsageError
from cvbatch.evaluation.evaluate import evaluate
from cvbatch.evaluation.report import EvaluationReport, Metrics
from tests.evaluation.generated_objects import as_lvis, generate, oracle, without_ties, write_run, write_truth

IMAGES = 24
KINDS = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}


@pytest.fixture(scope="module")
def generated() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    return generate(IMAGES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, generated: Any) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, IMAGES, generated[1])
    write_truth(folder, generated[0])
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> EvaluationReport:
    return evaluate(str(folder / "out"), str(folder / "truth.json"), by="row_id")


def assert_equal(metrics: Metrics, evaluation: Any) -> None:
    expected = [None if number == -1 else number for number in evaluation.stats.tolist()]
    assert list(metrics.values.values()) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_the_main_numbers_are_those_of_pycocotools(report: EvaluationReport, generated: Any, kind: str) -> None:
    assert report.metrics[kind].images == IMAGES
    assert_equal(report.metrics[kind], oracle(*generated, KINDS[kind], sigmas=3))


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_classes_and_curves(report: EvaluationReport, generated: Any, kind: str) -> None:
    evaluation = oracle(*generated, KINDS[kind], sigmas=3)
    names = [category["name"] for category in generated[0]["categories"]]
    for index, name in enumerate(names):
        precision = evaluation.eval["precision"][:, :, index, 0, -1]
        numbers = report.metrics[kind].per_class[name]
        assert numbers["AP"] == pytest.approx(precision.mean(), abs=1e-9)
        assert numbers["AP50"] == pytest.approx(precision[0].mean(), abs=1e-9)
        curve = report.metrics[kind].details["precision_recall"]["by_class"][name]
        assert curve == pytest.approx(precision[0].tolist(), abs=1e-6)


def test_names_are_matched_and_what_is_left_out_is_said(report: EvaluationReport) -> None:
    assert (
        "classes that are spelled differently: 1, such as 'traffic light' and boxes's 'Traffic_Light'" in report.notes
    )
    assert report.alignment.matched_by == "path"


def test_slices_are_evaluations_of_their_images(report: EvaluationReport, generated: Any) -> None:
    truth, results = generated
    first = {
        **truth,
        "images": truth["images"][:1],
        "annotations": [row for row in truth["annotations"] if row["image_id"] == 3],
    }
    assert_equal(report.slices["0"]["boxes"], oracle(first, [r for r in results if r["image_id"] == 3], "bbox"))
    assert report.slices["0"]["boxes"].details == {}


def test_classes_scores_and_conditions_choose_what_is_judged(folder: Path, generated: Any) -> None:
    truth, results = generated
    kept = [image["id"] for image in truth["images"][:10]]
    part = {
        "images": truth["images"][:10],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in kept and a["category_id"] == 20],
        "categories": [category for category in truth["categories"] if category["id"] == 20],
    }
    chosen = [r for r in results if r["image_id"] in kept and r["category_id"] == 20 and r["score"] >= 0.5]
    report = evaluate(
        str(folder / "out"), str(folder / "truth.json"), where="row_id < 10", classes=["dog"], min_score=0.5
    )
    assert_equal(report.metrics["boxes"], oracle(part, chosen, "bbox"))
    assert list(report.metrics["boxes"].per_class) == ["dog"]
    assert report.alignment.not_selected == IMAGES - 10


def test_rows_with_errors_and_missing_images_take_no_part_and_are_counted(tmp_path: Path, generated: Any) -> None:
    truth, results = generated
    write_run(tmp_path, IMAGES, results, failed=[0, 3])
    more = {**truth, "images": [*truth["images"], {"id": 1, "file_name": "photos/more.jpg"}]}
    report = evaluate(str(tmp_path / "out"), str(write_truth(tmp_path, more)))
    assert (report.alignment.failed, report.alignment.without_row) == (2, 1)
    gone = {3, 24}
    rest = {
        **truth,
        "images": [image for image in truth["images"] if image["id"] not in gone],
        "annotations": [row for row in truth["annotations"] if row["image_id"] not in gone],
    }
    assert_equal(report.metrics["boxes"], oracle(rest, [r for r in results if r["image_id"] not in gone], "bbox"))


def test_classes_that_one_side_lacks_are_listed_with_their_counts(tmp_path: Path, generated: Any) -> None:
    truth, results = generated
    names = {0: "person", 10: "Zeppelin", 20: "dog"}
    less = {
        **truth,
        "annotations": [row for row in truth["annotations"] if row["category_id"] in names],
        "categories": [{"id": key, "name": name} for key, name in names.items()],
    }
    write_run(tmp_path, IMAGES, results)
    report = evaluate(str(tmp_path / "out"), str(write_truth(tmp_path, less)))
    zeppelins = sum(row["category_id"] == 10 for row in truth["annotations"])
    others = {
        name: sum(r["category_id"] == key for r in results) for key, name in {10: "Traffic_Light", 40: "kite"}.items()
    }
    notes = "\n".join(report.notes)
    assert f"classes of the truth that boxes does not know: 1; they take no part, with their {zeppelins}" in notes
    assert f"predictions of classes that the truth does not name: {sum(others.values())}; they take no part" in notes
    assert all(f"{name} ({count})" in notes for name, count in others.items())
    assert set(report.metrics["boxes"].per_class) == {"person", "dog"}


def test_truth_with_no_class_of_the_model_is_one_line_with_both(tmp_path: Path, folder: Path) -> None:
    truth = {
        "images": [{"id": 1, "file_name": "0000.jpg"}],
        "annotations": [],
        "categories": [{"id": 1, "name": "zeppelin"}],
    }
    with pytest.raises(UsageError, match=r"expected classes of boxes, such as kite, .*; got zeppelin; give truth"):
        evaluate(str(folder / "out"), str(write_truth(tmp_path, truth)))


def test_images_of_another_size_are_named_and_their_masks_are_left_out(tmp_path: Path, folder: Path) -> None:
    truth, _ = generate(IMAGES)
    truth["images"][4] |= {"width": 90, "height": 120}
    report = evaluate(str(folder / "out"), str(write_truth(tmp_path, truth)))
    assert any("photos/0004.jpg: 90 × 120 and 120 × 90" in note for note in report.notes)
    assert [report.metrics[kind].images for kind in ("boxes", "masks")] == [IMAGES, IMAGES - 1]


def test_truth_without_masks_and_keypoints_is_about_boxes(tmp_path: Path, folder: Path) -> None:
    truth, _ = generate(IMAGES)
    for row in truth["annotations"]:
        del row["segmentation"], row["keypoints"], row["area"]
    report = evaluate(str(folder / "out"), str(write_truth(tmp_path, truth)))
    assert list(report.metrics) == ["boxes"]
    assert "the truth has no masks, so those of boxes are not judged" in report.notes


@pytest.mark.parametrize("layout", ["YOLO", "Pascal VOC"])
def test_folders_of_other_formats_give_the_numbers_of_coco(tmp_path: Path, layout: str) -> None:
    import hotcoco

    truth, results = generate(IMAGES)
    for row in truth["annotations"]:
        row["bbox"] = [float(round(number)) for number in row["bbox"]]
        row["iscrowd"] *= layout == "Pascal VOC"  # YOLO has none
        del row["segmentation"], row["keypoints"], row["area"]
    for image in truth["images"]:
        image["file_name"] = image["file_name"].removeprefix("photos/")
    write_run(tmp_path, IMAGES, results)
    coco = hotcoco.COCO(truth)
    folder = tmp_path / "labels"
    (coco.to_yolo if layout == "YOLO" else coco.to_voc)(str(folder))
    expected = evaluate(str(tmp_path / "out"), str(write_truth(tmp_path, truth)))
    report = evaluate(str(tmp_path / "out"), str(folder))
    assert report.layout == layout
    assert report.metrics["boxes"].values == pytest.approx(expected.metrics["boxes"].values, abs=1e-3)
    assert report.alignment.matched_by.startswith("file name")


def test_no_predictions_and_no_objects_are_no_error(tmp_path: Path) -> None:
    truth, _ = generate(3)
    write_run(tmp_path, 3, [])
    report = evaluate(str(tmp_path / "out"), str(write_truth(tmp_path, truth)))
    assert report.metrics["boxes"].values["AP"] == 0
    report = evaluate(str(tmp_path / "out"), str(write_truth(tmp_path, {**truth, "annotations": []})))
    assert set(report.metrics["boxes"].values.values()) == {None}


def test_lvis_has_the_numbers_of_its_own_library(tmp_path: Path) -> None:
    truth, results = generate(IMAGES, 3)
    write_run(tmp_path, IMAGES, results)
    report = evaluate(str(tmp_path / "out"), str(write_truth(tmp_path, as_lvis(truth))))
    assert report.layout == "LVIS JSON"
    assert list(report.metrics["boxes"].values.values()) == pytest.approx(
        [  # of lvis 0.5.3, which needs OpenCV
            *(0.206624452855, 0.323386017132, 0.237260579157, 0.220220428761, 0.225289865549, None),
            *(0.153511567103, 0.33144235956, 0.170771942378, 0.523194985169, 0.506482843137, 0.565773809524, None),
        ],
        abs=1e-11,
    )


def test_kinds_of_error_are_those_of_tide(tmp_path: Path) -> None:
    truth, results = without_ties(*generate(IMAGES, 4))
    write_run(tmp_path, IMAGES, results)
    report = evaluate(str(tmp_path / "out"), str(write_truth(tmp_path, truth)))
    errors = report.metrics["boxes"].details["error_kinds"]
    expected = {  # of tidecv 1.0.1
        "class": (13, 2.085081985613421),
        "place": (10, 7.038719630244749),
        "both": (9, 3.23723540067072),
        "double": (36, 3.224033016728974),
        "background": (41, 7.2841654783443985),
        "missed": (21, 14.619643569848783),
    }
    assert errors["AP50"] == pytest.approx(0.3803246377753238)
    assert {name: kind["count"] for name, kind in errors["kinds"].items()} == {
        name: count for name, (count, _) in expected.items()
    }
    costs = [kind["AP50 lost"] * 100 for kind in errors["kinds"].values()]
    assert costs == pytest.approx([cost for _, cost in expected.values()])
