"""A run of a segmenter against PNG masks and COCO: the same numbers as torchmetrics on the same pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco
from scipy import ndimage
from torchmetrics.functional.classification import multiclass_jaccard_index

from cvbatch.errors import UsageError
from cvbatch.evaluation.boundary_f1 import boundary_f1
from cvbatch.evaluation.evaluate import evaluate
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.tasks.segmentation import emitted_label_ids, summarize_label_map
from tests.samples import block, planned, spec, started

LabelMap = npt.NDArray[np.int64]
NAMES = (None, "sky", "grass", "cow")
MODEL = replace(spec("regions", "segmentation"), categories=NAMES)
HEIGHT, WIDTH, IMAGES = 60, 80, 6


def make_map(seed: int, classes: int = 4) -> LabelMap:
    noise = np.random.default_rng(seed).normal(size=(classes, HEIGHT, WIDTH))
    return ndimage.gaussian_filter(noise, (0, 5, 5)).argmax(axis=0)


TRUTH = [make_map(seed) for seed in range(IMAGES)]
ANSWERS = [np.where(np.arange(WIDTH) < 60, truth, make_map(50 + index)) for index, truth in enumerate(TRUTH)]


def segment_run(folder: Path, model: ModelSpec, maps: Sequence[LabelMap], failed: Sequence[int] = ()) -> str:
    """Commit label maps as answers."""
    answers = [summarize_label_map(np.asfortranarray(labels), emitted_label_ids(model)) for labels in maps]
    lists: dict[str, list[Any]] = {
        "label_ids": [answer.label_ids.tolist() for answer in answers],
        "labels": [[model.categories[label] for label in answer.label_ids] for answer in answers],
        "areas": [answer.areas.tolist() for answer in answers],
        "masks": [list(answer.masks) for answer in answers],
    }
    columns = {
        f"{model.alias}_{name}": [None if row in failed else value for row, value in enumerate(values)]
        for name, values in lists.items()
    }
    store, _ = planned(folder, len(maps), model)
    log = started(store, len(maps))
    uris = [f"/photos/a/{row}.jpg" for row in range(len(maps))]
    sizes = {"height": [len(labels) for labels in maps], "width": [len(labels[0]) for labels in maps]}
    rows = block(0, len(maps), model, failed=failed, image_uri=uris, **sizes, **columns)
    log.commit_files(write_data_files(WriteContext(store.root, log.epoch, rows_schema([model])), [rows]).files)
    return str(store.root)


def write_masks(folder: Path, maps: Sequence[LabelMap], ending: str = "", palette: bool = True) -> str:
    (folder / "a").mkdir(parents=True)
    for index, labels in enumerate(maps):
        image = Image.fromarray(labels.astype(np.uint8))
        if palette:
            image.putpalette([value // 3 for value in range(768)])
        image.save(folder / "a" / f"{index}{ending}.png")
    return str(folder)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    return segment_run(tmp_path_factory.mktemp("run"), MODEL, ANSWERS)


def expected_iou(truth: Sequence[LabelMap], answers: Sequence[LabelMap], classes: int = 4) -> npt.NDArray[np.float64]:
    maps = [torch.from_numpy(np.stack(side)) for side in (answers, truth)]
    return multiclass_jaccard_index(*maps, num_classes=classes, ignore_index=255, average="none").numpy()


@pytest.mark.parametrize(("ending", "palette"), [("", True), ("_mask", False)])
def test_masks_of_label_ids_with_ignored_pixels(output: str, tmp_path: Path, ending: str, palette: bool) -> None:
    truth = [np.where(make_map(90 + index, 7) == 6, 255, labels) for index, labels in enumerate(TRUTH)]
    report = evaluate(output, write_masks(tmp_path / "masks", truth, ending, palette))
    measured = report.metrics["segmentation"]
    iou = expected_iou(truth, ANSWERS)
    assert measured.images == IMAGES
    assert {name: numbers["IoU"] for name, numbers in measured.per_class.items()} == {
        name: pytest.approx(iou[index], abs=1e-6) for index, name in enumerate(("background", "sky", "grass", "cow"))
    }
    assert measured.values["mIoU"] == pytest.approx(iou.mean(), abs=1e-6)
    valid = np.stack(truth) != 255
    accuracy = (np.stack(truth) == np.stack(ANSWERS))[valid].mean()
    assert measured.values["pixel accuracy"] == pytest.approx(accuracy)
    boundaries = [
        boundary_f1(np.where(labels == 255, -1, labels), answer)[1].mean()
        for labels, answer in zip(truth, ANSWERS, strict=True)
    ]
    assert measured.values["boundary F1"] == pytest.approx(np.mean(boundaries))
    assert all(low < measured.values[name] < high for name, (low, high) in measured.intervals.items())
    assert sum(pixels for *_, pixels in measured.details["confusion"]) == valid.sum()
    assert "pixels of value 255 do not count" in report.notes
    assert report.alignment.matched_by == "last 2 parts of the path"


def test_ignored_pixels_count_when_asked_and_unknown_values_are_wrong(output: str, tmp_path: Path) -> None:
    truth = [labels.copy() for labels in TRUTH]
    truth[0][:6] = 255
    report = evaluate(output, write_masks(tmp_path / "masks", truth), ignored_value=None)
    wrong = (np.stack(truth) != np.stack(ANSWERS)).mean()
    assert report.metrics["segmentation"].values["pixel accuracy"] == pytest.approx(1 - wrong)
    assert (
        f"{6 * 80 / (IMAGES * 4800):.2%} of the pixels are of classes that regions does not know: wrong" in report.notes
    )


def test_a_list_of_names_says_what_values_mean(output: str, tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", [(labels + 1) % 4 for labels in TRUTH])
    (tmp_path / "masks" / "classes.txt").write_text("cow\n__background__\nSky\ngrass\n")
    measured = evaluate(output, masks, classes=["cow", "sky"]).metrics["segmentation"]
    iou = expected_iou(TRUTH, ANSWERS)
    assert measured.values["mIoU"] == pytest.approx((iou[1] + iou[3]) / 2, abs=1e-6)
    assert measured.per_class.keys() == {"cow", "sky"}
    outside = write_masks(
        tmp_path / "outside", [np.full((HEIGHT, WIDTH), 9), *[(labels + 1) % 4 for labels in TRUTH[1:]]]
    )
    (tmp_path / "outside" / "classes.txt").write_text((tmp_path / "masks" / "classes.txt").read_text())
    notes = evaluate(output, outside).notes
    assert f"{1 / IMAGES:.2%} of the pixels are of classes that regions does not know: wrong" in notes


def write_coco(folder: Path, maps: Sequence[LabelMap]) -> str:
    """Objects that overlap: grass is a whole image, the others lie on it; polygons and run lengths."""
    images, annotations = [], []
    for image, labels in enumerate(maps):
        images.append({"id": image, "file_name": f"{image}.jpg", "height": HEIGHT, "width": WIDTH})
        for category in (1, 3, 2):
            inside = (labels == category) if category != 2 else np.isin(labels, [1, 2, 3])
            encoded = coco.encode(np.asfortranarray(inside.astype(np.uint8)))
            segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": image,
                    "category_id": category * 10,
                    "bbox": [0, 0, WIDTH, HEIGHT],
                    "area": int(inside.sum()),
                    "iscrowd": 0,
                    "segmentation": segmentation,
                }
            )
    categories = [{"id": 10 * index, "name": name} for index, name in enumerate(NAMES) if name]
    (folder / "stuff.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return str(folder / "stuff.json")


def test_objects_are_painted_the_largest_first(output: str, tmp_path: Path) -> None:
    report = evaluate(output, write_coco(tmp_path, TRUTH), by="size")
    measured = report.metrics["segmentation"]
    assert measured.values["mIoU"] == pytest.approx(expected_iou(TRUTH, ANSWERS).mean(), abs=1e-6)
    (part,) = report.slices.values()
    assert part["segmentation"].values == measured.values


def test_a_model_without_background_is_not_judged_there(tmp_path: Path) -> None:
    model = replace(MODEL, categories=("nothing", "sky", "grass", "cow"))
    output = segment_run(tmp_path, model, ANSWERS)
    truth = [np.where(labels == 0, 255, labels) for labels in TRUTH]
    report = evaluate(output, write_coco(tmp_path, TRUTH))
    expected = expected_iou(truth, ANSWERS)[1:]
    values = report.metrics["segmentation"].per_class
    assert [values[name]["IoU"] for name in NAMES[1:]] == pytest.approx(expected.tolist(), abs=1e-6)
    assert "regions has no class for the background, so that its pixels do not count" in report.notes


def test_masks_of_another_size_take_no_part(output: str, tmp_path: Path) -> None:
    masks = write_masks(tmp_path / "masks", [TRUTH[0].T, *TRUTH[1:]])
    report = evaluate(output, masks)
    assert report.metrics["segmentation"].images == IMAGES - 1
    assert any("1 masks have another size than their image and take no part" in note for note in report.notes)
    wrong = write_masks(tmp_path / "wrong", [labels.T for labels in TRUTH])
    with pytest.raises(
        UsageError, match=r"expected masks of the size of their images; got .*a/0: 60 × 80, expected 80 × 60, turned"
    ):
        evaluate(output, wrong)


@pytest.mark.parametrize(
    ("mode", "message"),
    [
        ("RGB", r"0.png: expected a mask with a palette or in shades of grey, got one of mode RGB"),
        (None, "expected a PNG"),
    ],
)
def test_a_file_that_is_no_mask_is_one_line(output: str, tmp_path: Path, mode: str | None, message: str) -> None:
    (tmp_path / "a").mkdir()
    if mode is None:
        (tmp_path / "a" / "0.png").write_text("no picture")
    else:
        Image.new(mode, (WIDTH, HEIGHT)).save(tmp_path / "a" / "0.png")
    with pytest.raises(UsageError, match=message):
        evaluate(output, str(tmp_path))


def test_wrong_requests_are_one_line(output: str, tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    with pytest.raises(UsageError, match=r"expected a folder of PNG masks, such as 0001.png for 0001.jpg; got none"):
        evaluate(output, str(tmp_path / "masks"))
    with pytest.raises(UsageError, match="segments have no score"):
        evaluate(output, write_coco(tmp_path, TRUTH), min_score=0.5)
    boxes = json.loads(Path(write_coco(tmp_path, TRUTH)).read_text())
    for annotation in boxes["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    with pytest.raises(UsageError, match="expected objects with masks"):
        evaluate(output, str(tmp_path / "boxes.json"))
