"""Shards are read back by webdataset itself: the bytes of each image, and its labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from tests.export.runs import BOXES, MASKS, NAMES, box_columns, jpeg_of, make_image_run, mask_columns, random_mask

tariterators = pytest.importorskip("webdataset.tariterators")
BOX = (3, 0.5, (1.5, 2, 11.5, 22))


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """By the library's own steps, with files that are closed, which its pipeline leaves to the garbage collector."""
    samples = []
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            files = tariterators.tar_file_expander([{"url": str(path), "stream": stream}])
            samples += list(tariterators.group_by_keys(files))
    return [{**sample, "json": json.loads(sample["json"])} for sample in samples]


def test_images_and_labels_come_back(tmp_path: Path) -> None:
    output = make_image_run(tmp_path, (BOXES, box_columns([[BOX, BOX], [], None, [BOX]])), failed=[2])
    report = export_predictions(output, "webdataset", str(tmp_path / "to"), options=FormatOptions(images_per_file=2))
    assert (report.images, report.notes) == (3, {})
    assert sorted(path.name for path in (tmp_path / "to").iterdir()) == ["shard-000000.tar", "shard-000001.tar"]
    samples = read_samples(tmp_path / "to")
    assert [sample["__key__"] for sample in samples] == ["000000000", "000000001", "000000003"]
    assert [sample["jpg"] for sample in samples] == [jpeg_of(0), jpeg_of(20), jpeg_of(60)]
    labels = samples[0]["json"]
    assert (labels["row_id"], labels["width"], labels["model"]) == (0, 40, "boxes")
    assert labels["elements"] == [{"label": NAMES[3], "label_id": 3, "score": 0.5, "box": [1.5, 2, 11.5, 22]}] * 2
    assert samples[1]["json"]["elements"] == []


def test_images_that_changed_or_are_gone_are_left_out_and_counted(tmp_path: Path) -> None:
    output = make_image_run(tmp_path, (MASKS, mask_columns([[(1, 0.5, random_mask(1))]] * 3)))
    (tmp_path / "photos" / "0000.jpg").write_bytes(jpeg_of(200))
    (tmp_path / "photos" / "0001.jpg").unlink()
    report = export_predictions(output, "webdataset", str(tmp_path / "to"))
    assert report.notes == {"images that cannot be read any more": 1, "images changed since": 1}
    (sample,) = read_samples(tmp_path / "to")
    assert sample["json"]["elements"][0]["mask"]["size"] == [30, 40]
