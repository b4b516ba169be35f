"""Label maps as targets, from masks and from painted objects."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from cvbatch.errors import UsageError
from cvbatch.evaluation.evaluators import EVALUATORS
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.storage.location import Location
from cvbatch.tasks import SEGMENTATION
from cvbatch.testing import generate_shapes
from cvbatch.training.map_targets import as_label_map, decode_map, map_targets
from cvbatch.training.target_column import Targets
from cvbatch.truth.base import TruthOptions, read_truth


def targets_of(truth: Path, sizes: list[tuple[int, int]], ignored: int | None = 255) -> Targets:
    read = read_truth(Location(str(truth)), EVALUATORS[SEGMENTATION.name].readers, TruthOptions(ignored_value=ignored))
    order = np.argsort(np.array(read.image_names))
    widths, heights = zip(*sizes, strict=True)
    return map_targets(read, order, pa.table({WIDTH: list(widths), HEIGHT: list(heights)}))


def save_masks(folder: Path, masks: list[np.ndarray], classes: str | None = None) -> list[tuple[int, int]]:
    for index, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"{index}.png")
    if classes is not None:
        (folder / "classes.txt").write_text(classes)
    return [(mask.shape[1], mask.shape[0]) for mask in masks]


def test_masks_and_painted_objects_give_the_same_maps(tmp_path: Path) -> None:
    shapes = generate_shapes(tmp_path, 8, longest_side=64)
    sizes = [(image[WIDTH], image[HEIGHT]) for image in json.loads(shapes.objects.read_text())["images"]]
    masks, painted = (targets_of(truth, sizes) for truth in (shapes.masks, shapes.objects))
    assert masks.categories == painted.categories
    assert masks.categories[0] is None
    assert masks.counts == painted.counts
    assert sum(masks.counts.values()) == sum(width * height for width, height in sizes)
    for first, second in zip(masks.column.to_pylist(), painted.column.to_pylist(), strict=True):
        np.testing.assert_array_equal(decode_map(first), decode_map(second))


def test_classes_are_numbered_anew_and_ignored_pixels_stay_so(tmp_path: Path) -> None:
    sizes = save_masks(tmp_path, [np.array([[3, 1, 255], [3, 3, 1]])], "background\nroad\nsea\nsky\n")
    targets = targets_of(tmp_path, sizes)
    assert targets.categories == (None, "road", "sky")
    assert targets.counts == {"background": 0, "road": 2, "sky": 3}
    np.testing.assert_array_equal(as_label_map(decode_map(targets.column[0].as_py())), [[2, 1, -1], [2, 2, 1]])
    assert targets.notes == ["classes of the truth without a pixel are left out: sea"]


def test_without_a_background_all_classes_have_names(tmp_path: Path) -> None:
    sizes = save_masks(tmp_path, [np.array([[0, 7]])])
    assert targets_of(tmp_path, sizes).categories == ("0", "7")


@pytest.mark.parametrize(
    ("mask", "classes", "size", "message"),
    [
        ([[0, 9]], "background\nroad\n", (2, 1), "expected values from 0 to 1 in the mask of .*/0, one for each class"),
        ([[0, 1]], "background\nroad\n", (1, 2), "got 2 × 1 for .*/0, which has 1 × 2; the image is turned"),
        ([[1, 1]], "background\nroad\n", (2, 1), "pixels of at least two classes.*got only 'road' in 1 images"),
        ([[255, 255]], "background\nroad\n", (2, 1), "got no pixel that counts"),
    ],
)
def test_masks_that_cannot_be_learned_are_refused(
    tmp_path: Path, mask: list[list[int]], classes: str, size: tuple[int, int], message: str
) -> None:
    save_masks(tmp_path, [np.array(mask)], classes)
    with pytest.raises(UsageError, match=message):
        targets_of(tmp_path, [size])
