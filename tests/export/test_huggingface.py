"""The Parquet files are read back by `datasets` itself: classes, boxes and images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from cvbatch.errors import UsageError
from cvbatch.export.base import FormatOptions
from cvbatch.export.dataset_features import class_names
from cvbatch.export.exporting import export_predictions
from tests.export.runs import (
    LABELS,
    MASKS,
    NAMES,
    SEGMENTS,
    make_image_run,
    make_run,
    mask_columns,
    random_mask,
    segment_columns,
)
from tests.samples import spec

datasets = pytest.importorskip("datasets")


def load(output: str, tmp_path: Path, **options: Any) -> Any:
    to = tmp_path / f"to-{options.get('images')}"
    model = options.pop("model", None)
    export_predictions(output, "huggingface", str(to), model=model, options=FormatOptions(**options))
    return datasets.load_dataset(str(to), split="train", cache_dir=str(tmp_path / "cache"))


@pytest.mark.parametrize("images", ["paths", "bytes"])
def test_images_and_boxes_come_back(tmp_path: Path, images: str) -> None:
    mask = random_mask(1)
    output = make_image_run(tmp_path, (MASKS, mask_columns([[(3, 0.5, mask), (5, 0.25, mask)], [], None])), failed=[2])
    dataset = load(output, tmp_path, images=images, images_per_file=1)
    assert len(list((tmp_path / f"to-{images}" / "data").iterdir())) == 2
    assert dataset["row_id"][:] == [0, 1]
    first = dataset[0]
    assert np.asarray(first["image"]).shape == (30, 40, 3)
    assert np.asarray(dataset[1]["image"]).max() in range(18, 23)
    categories = dataset.features["objects"]["category"].feature
    assert [categories.int2str(label) for label in first["objects"]["category"]] == [NAMES[3], NAMES[5]]
    assert first["objects"]["score"] == [0.5, 0.25]
    x_min, y_min, width, height = first["objects"]["bbox"][0]
    ys, xs = np.nonzero(mask)
    assert (x_min, y_min, x_min + width, y_min + height) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert len(first["objects"]["mask"]) == 2
    assert dataset[1]["objects"]["bbox"] == []


def test_labels_vectors_and_segments(tmp_path: Path) -> None:
    vectors = spec("vectors", "embedding", dimension=2, dtype="float16")
    output = make_image_run(
        tmp_path,
        (LABELS, {"label": [NAMES[4], None], "label_id": [4, None], "score": [0.5, None]}),
        (vectors, {"vector": [np.array([0.5, 2], np.float16)] * 2}),
        (SEGMENTS, segment_columns([[(5, random_mask(1))], []])),
    )
    labels = load(output, tmp_path / "a", model="kinds")
    assert labels.features["label"].int2str(labels[0]["label"]) == NAMES[4]
    assert labels[1]["label"] is None
    assert load(output, tmp_path / "b", model="vectors")["vector"][:] == [[0.5, 2], [0.5, 2]]
    segments = load(output, tmp_path / "c", model="regions")
    assert segments.features["segments"]["category"].feature.int2str(segments[0]["segments"]["category"][0]) == "cat"


def test_names_of_classes_differ() -> None:
    names = class_names(replace(LABELS, categories=("crane", None, "crane", "犬")))
    assert names == ["crane", "unused 1", "crane (2)", "犬"]


def test_a_run_without_good_rows_is_an_empty_dataset(tmp_path: Path) -> None:
    output = make_run(tmp_path, (LABELS, {"label": [None]}), failed=[0])
    export_predictions(output, "huggingface", str(tmp_path / "to"))
    file = pq.ParquetFile(tmp_path / "to/data/train-00000.parquet")
    assert file.metadata.num_rows == 0
    assert datasets.Features.from_arrow_schema(file.schema_arrow)["label"].names == class_names(LABELS)


def test_a_wrong_way_of_images_is_one_line(tmp_path: Path) -> None:
    output = make_run(tmp_path, (LABELS, {"label": ["dog"]}))
    with pytest.raises(UsageError, match="images: expected paths or bytes, got symlink"):
        load(output, tmp_path, images="symlink")
