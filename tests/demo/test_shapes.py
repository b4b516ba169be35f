"""The generated set is read by the readers of `cvbatch evaluate`, and its three kinds of truth agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cvbatch.errors import UsageError
from cvbatch.evaluation.evaluators import EVALUATORS
from cvbatch.storage.location import Location
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION
from cvbatch.testing import SHAPES, ShapeSet, generate_shapes
from cvbatch.truth.base import read_truth
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.mask_files import PixelTruth
from cvbatch.truth.objects import ObjectTruth


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> ShapeSet:
    return generate_shapes(tmp_path_factory.mktemp("shapes"), 24, seed=3)


def test_boxes_masks_and_classes_agree(shapes: ShapeSet) -> None:
    labels = read_truth(Location(str(shapes.labels)), EVALUATORS[CLASSIFICATION.name].readers)
    objects = read_truth(Location(str(shapes.objects)), EVALUATORS[DETECTION.name].readers)
    painted = read_truth(Location(str(shapes.objects)), EVALUATORS[SEGMENTATION.name].readers)
    masks = read_truth(Location(str(shapes.masks)), EVALUATORS[SEGMENTATION.name].readers)
    assert isinstance(labels, LabelTruth)
    assert isinstance(objects, ObjectTruth)
    assert isinstance(painted, PixelTruth)
    assert isinstance(masks, PixelTruth)
    assert set(objects.categories) == set(SHAPES)
    assert objects.sizes is not None
    assert objects.areas is not None
    for image, (width, height) in enumerate(objects.sizes.tolist()):
        with Image.open(shapes.images / f"{image:05d}.jpg") as file:
            assert file.size == (width, height)
        label_map = masks.read_map(image, height, width)
        names = np.array((*masks.categories, "?"))[label_map]
        assert (names == np.array((*painted.categories, "?"))[painted.read_map(image, height, width)]).all()
        of_image = np.flatnonzero(objects.image_indices == image)
        largest = of_image[np.argmax(objects.areas[of_image])]
        assert labels.categories[labels.labels[image]] == objects.categories[objects.labels[largest]]
        for index in of_image:
            left, top, across, down = objects.boxes[index].astype(int)
            inside = names[top : top + down, left : left + across] == objects.categories[objects.labels[index]]
            assert inside.any(axis=0).all()
            assert inside.any(axis=1).all()
            assert inside.sum() >= objects.areas[index]


def test_a_seed_gives_the_same_images_and_another_seed_others(shapes: ShapeSet, tmp_path: Path) -> None:
    again, other = (generate_shapes(tmp_path / str(seed), 2, seed=seed) for seed in (3, 4))
    first = (shapes.images / "00001.jpg").read_bytes()
    assert (again.images / "00001.jpg").read_bytes() == first
    assert (other.images / "00001.jpg").read_bytes() != first


def test_classes_and_their_shares_are_chosen(tmp_path: Path) -> None:
    made = generate_shapes(tmp_path, 6, classes=("star", "circle"), shares={"circle": 1.0}, most_shapes=1)
    content = json.loads(made.objects.read_text())
    assert [category["name"] for category in content["categories"]] == ["star", "circle"]
    assert [found["category_id"] for found in content["annotations"]] == [2] * 6


def test_an_unknown_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected some of circle, square, star, triangle; got 'hexagon'"):
        generate_shapes(tmp_path, 1, classes=("hexagon",))
