"""CSV is read back by pandas: a row per image with lists as JSON, or a row per element."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cvbatch.errors import UsageError
from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from tests.export.runs import (
    BOXES,
    LABELS,
    MASKS,
    NAMES,
    POINTS,
    SEGMENTS,
    box_columns,
    make_run,
    mask_columns,
    random_mask,
    segment_columns,
)
from tests.samples import spec

BIG = (3, 0.9, (1.5, 2, 11.5, 22))
SMALL = (4, 0.25, (3, 4, 5, 8))


def read_csv(output: str, tmp_path: Path, rows: str | None = None, **asked: Any) -> pd.DataFrame:
    to = tmp_path / f"{rows}.csv"
    export_predictions(output, "csv", str(to), options=FormatOptions(rows=rows), **asked)
    return pd.read_csv(to)


def test_a_row_per_image_has_lists_as_json(tmp_path: Path) -> None:
    output = make_run(tmp_path, (BOXES, box_columns([[BIG, SMALL], [], None])), failed=[2])
    frame = read_csv(output, tmp_path)
    assert frame["row_id"].tolist() == [0, 1]
    assert frame["count"].tolist() == [2, 0]
    assert json.loads(frame["labels"][0]) == [NAMES[3], NAMES[4]]
    assert json.loads(frame["boxes"][0]) == [list(BIG[2]), list(SMALL[2])]
    assert json.loads(frame["scores"][0]) == [0.9, 0.25]
    assert frame["boxes"][1] == frame["labels"][1] == "[]"


def test_a_row_per_box_repeats_the_columns_of_the_image(tmp_path: Path) -> None:
    output = make_run(tmp_path, (BOXES, box_columns([[BIG, SMALL], [], [SMALL]])))
    frame = read_csv(output, tmp_path, "elements", min_score=0.2)
    assert frame[["row_id", "label", "label_id", "x_max"]].to_numpy().tolist() == [
        [0, NAMES[3], 3, 11.5],
        [0, NAMES[4], 4, 5],
        [2, NAMES[4], 4, 5],
    ]
    assert frame["image_uri"][2].endswith("/2.jpg")


def test_labels_are_plain_columns_and_may_be_missing(tmp_path: Path) -> None:
    columns = {"label": [NAMES[3], "cat"], "label_id": [3, 5], "score": [0.9, 0.2]}
    output = make_run(tmp_path, (LABELS, columns))
    frame = read_csv(output, tmp_path, min_score=0.5)
    assert frame["label"].tolist()[0] == NAMES[3]
    assert frame["label"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("model", "columns"),
    [
        (MASKS, mask_columns([[(1, 0.5, random_mask(1))]])),
        (SEGMENTS, segment_columns([[(5, random_mask(1))]])),
    ],
)
def test_masks_are_run_lengths(tmp_path: Path, model: Any, columns: Any) -> None:
    output = make_run(tmp_path, (model, columns))
    counts = columns["masks"][0][0].decode()
    assert json.loads(read_csv(output, tmp_path)["masks"][0]) == [{"size": [30, 40], "counts": counts}]
    assert read_csv(output, tmp_path, "elements")["mask"].tolist() == [counts]


def test_keypoints_and_vectors_are_json(tmp_path: Path) -> None:
    points = {**box_columns([[BIG]]), "keypoints": [[[1, 2, 0.5, 3, 4, 0.25]]]}
    vectors = spec("vectors", "embedding", dimension=2, dtype="float16")
    output = make_run(tmp_path, (POINTS, points), (vectors, {"vector": [np.array([0.5, 2], np.float16)]}))
    assert read_csv(output, tmp_path, "elements")["keypoints"].tolist() == ["[1,2,0.5,3,4,0.25]"]
    (tmp_path / "None.csv").unlink(missing_ok=True)
    assert read_csv(output, tmp_path, model="vectors")["vectors_vector"].tolist() == ["[0.5,2]"]


def test_no_rows_are_a_header_and_a_wrong_option_is_one_line(tmp_path: Path) -> None:
    output = make_run(tmp_path, (BOXES, box_columns([None])), failed=[0])
    frame = read_csv(output, tmp_path)
    assert len(frame) == 0
    assert "image_uri" in frame.columns
    with pytest.raises(UsageError, match="rows: expected images or elements, got 'boxes'"):
        read_csv(output, tmp_path, "boxes")
