"""Samples in the layout of FiftyOne; its own importer reads them where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from tests.export.runs import (
    LABELS,
    MASKS,
    NAMES,
    POINTS,
    SEGMENTS,
    box_columns,
    jpeg_of,
    make_image_run,
    mask_columns,
    random_mask,
    segment_columns,
)
from tests.samples import spec

BOX = (3, 0.5, (4, 3, 20, 15))


def export(output: str, to: Path, **options: Any) -> list[dict[str, Any]]:
    images = FormatOptions(images=options.pop("images", None))
    export_predictions(output, "fiftyone", str(to), options=images, **options)
    samples: list[dict[str, Any]] = json.loads((to / "samples.json").read_text())["samples"]
    return samples


def import_samples(folder: Path) -> list[Any]:
    """By FiftyOne itself, without its database."""
    importers = pytest.importorskip("fiftyone.utils.data.importers")
    with importers.LegacyFiftyOneDatasetImporter(str(folder)) as importer:
        return list(importer)


def test_boxes_are_shares_of_the_image(tmp_path: Path) -> None:
    columns = {**box_columns([[BOX], [], None]), "keypoints": [[[4, 3, 0.5, 20, 15, 0.25]], [], None]}
    output = make_image_run(tmp_path, (POINTS, columns), failed=[2])
    first, second = export(output, tmp_path / "to")
    assert first["filepath"] == f"{tmp_path}/photos/0000.jpg"
    assert first["metadata"] == {"_cls": "ImageMetadata", "width": 40, "height": 30}
    (detection,) = first["boxes"]["detections"]
    assert (detection["label"], detection["confidence"]) == (NAMES[3], 0.5)
    assert detection["bounding_box"] == pytest.approx([0.1, 0.1, 0.4, 0.4])
    assert second["boxes"]["detections"] == []
    (keypoint,) = first["boxes_keypoints"]["keypoints"]
    assert (keypoint["points"], keypoint["confidence"]) == ([[0.1, 0.1], [0.5, 0.5]], [0.5, 0.25])


def test_images_can_be_copied_beside_the_samples(tmp_path: Path) -> None:
    output = make_image_run(tmp_path, (LABELS, {"label": ["cat"], "label_id": [5], "score": [0.5]}))
    (sample,) = export(output, tmp_path / "to", images="copy")
    assert (tmp_path / "to" / sample["filepath"]).read_bytes() == jpeg_of(0)
    assert sample["kinds"] == {"_cls": "Classification", "label": "cat", "confidence": 0.5}


def test_fiftyone_reads_labels_masks_keypoints_and_vectors(tmp_path: Path) -> None:
    mask, vectors = random_mask(1), spec("vectors", "embedding", dimension=2, dtype="float16")
    output = make_image_run(
        tmp_path,
        (MASKS, mask_columns([[(3, 0.5, mask)], []])),
        (SEGMENTS, segment_columns([[(5, mask)], []])),
        (LABELS, {"label": [NAMES[4], None], "label_id": [4, None], "score": [0.5, None]}),
        (vectors, {"vector": [np.array([0.5, 2], np.float16)] * 2}),
    )
    samples = {}
    for model in ("boxes", "regions", "kinds", "vectors"):
        export(output, tmp_path / model, model=model)
        samples[model] = import_samples(tmp_path / model)
    (detection,) = samples["boxes"][0]["boxes"].detections
    x_min, y_min = round(detection.bounding_box[0] * 40), round(detection.bounding_box[1] * 30)
    height, width = detection.mask.shape
    assert np.array_equal(detection.mask, mask[y_min : y_min + height, x_min : x_min + width])
    assert detection.mask.sum() == mask.sum()
    assert np.array_equal(samples["regions"][0]["regions"].mask == 6, mask)
    targets = json.loads((tmp_path / "regions/metadata.json").read_text())["info"]["default_mask_targets"]
    assert targets["6"] == "cat"
    assert samples["kinds"][0]["kinds"].label == NAMES[4]
    assert samples["kinds"][1]["kinds"] is None
    assert samples["vectors"][0]["vectors"] == [0.5, 2]
    assert samples["vectors"][0]["row_id"] == 0
