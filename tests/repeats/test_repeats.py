"""A stone before a camera is found, and nothing else; what is wrong is said, and exports can leave its boxes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

import cvbatch
from cvbatch.cli.parser import main
from cvbatch.errors import UsageError
from cvbatch.models.spec import rows_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.log_records import DataFile
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import make_plan
from cvbatch.repeats.filter import open_repeat_filter
from cvbatch.repeats.folder_boxes import BoxSelection, FolderBoxes
from cvbatch.repeats.repeats import find_repeats
from cvbatch.results.committed import open_output
from cvbatch.results.draw import spell_in_ascii
from cvbatch.sources import open_source
from tests.samples import block, job, spec, started

BOXES = spec("boxes", "detection")
STONE = [40.0, 30.0, 60.0, 45.0]
CAMERAS = ("north", "south")
IMAGES = 12


def draw_photo(path: Path, stone: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo = Image.new("RGB", (160, 120), (90, 120, 80))
    if stone:
        ImageDraw.Draw(photo).ellipse(STONE, fill=(140, 140, 140))
    photo.save(path, quality=90)


def boxes_of_images() -> dict[str, list[Any]]:
    """12 images of each camera: the stone in all of the first, an animal that walks, and one box of another class."""
    rng = np.random.default_rng(0)
    boxes, labels, scores = [], [], []
    for camera in CAMERAS:
        for image in range(IMAGES):
            animal = [10.0 * image, 60.0, 10.0 * image + 20, 80.0]
            large = [0.0, 0.0, 159.0, 119.0]
            stone = (np.array(STONE) + rng.uniform(-0.5, 0.5, 4)).tolist()
            boxes.append([animal, stone, stone, large] if camera == "north" else [animal, large])
            labels.append([0, 0, 2, 0] if camera == "north" else [0, 0])
            scores.append([0.9, 0.5, 0.4 if image else 0.1, 0.95] if camera == "north" else [0.9, 0.95])
    names = {0: "a", 2: "b"}
    return {
        "boxes_boxes": boxes,
        "boxes_label_ids": labels,
        "boxes_labels": [[names[label] for label in row] for row in labels],
        "boxes_scores": scores,
        "width": [160] * len(boxes),
        "height": [120] * len(boxes),
    }


def write_rows(log: CommitLog, columns: dict[str, list[Any]], uris: list[str]) -> tuple[DataFile, ...]:
    rows = block(0, len(uris), BOXES, image_uri=uris, **columns)
    return write_data_files(WriteContext(log.store.root, log.epoch, rows_schema([BOXES])), [rows]).files


@pytest.fixture
def cameras(tmp_path: Path) -> tuple[str, CommitLog, list[str]]:
    """A run over photos of two cameras."""
    for camera in CAMERAS:
        for image in range(IMAGES):
            draw_photo(tmp_path / "photos" / camera / "100RECNX" / f"{image:04d}.jpg", camera == "north")
    store = LocalStore(str(tmp_path / "out"))
    store.check_writable()
    asked = job(tmp_path / "photos", store.root)
    plan = make_plan(store, asked, [BOXES], open_source(asked.source))
    log = started(store, plan.rows)
    uris = [
        str(tmp_path / "photos" / camera / "100RECNX" / f"{image:04d}.jpg")
        for camera in CAMERAS
        for image in range(IMAGES)
    ]
    log.commit_files(write_rows(log, boxes_of_images(), uris))
    return str(store.root), log, uris


def test_a_stone_is_found(cameras: tuple[str, CommitLog, list[str]]) -> None:
    root, _, uris = cameras
    answer = find_repeats(root, images=12, overlap=0.8)
    frame = answer.read()
    assert (answer.images, answer.folders, answer.places, answer.suspects) == (24, 2, 2, 24)
    assert answer.boxes == 12 * 3 + 12, "boxes that cover the image take no part"
    first = frame[frame["place"] == 0]
    assert first["row_id"].tolist() == list(range(12))
    assert first["box_index"].tolist() == [1] * 12
    assert set(first["label"]) == {"a"}
    assert set(first["folder"]) == {str(Path(uris[0]).parent)}
    assert (first["iou"] >= 0.8).all()
    np.testing.assert_allclose(first[["x_min", "y_min", "x_max", "y_max"]].mean(), STONE, atol=0.5)
    assert set(frame[frame["place"] == 1]["label_id"]) == {2}
    assert answer.largest_places[0]["images"] == answer.largest_places[0]["boxes"] == 12


def test_the_picture_shows_the_stone(cameras: tuple[str, CommitLog, list[str]]) -> None:
    root, _, uris = cameras
    answer = find_repeats(root, images=12, overlap=0.8)
    assert answer.sheet == f"{root}-repeats.png"
    with Image.open(answer.sheet) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    crops = pixels[24:224, 24:624]
    for column in range(3):
        centre = crops[80:120, 200 * column + 80 : 200 * column + 120]
        assert np.abs(centre - 140).mean() < 6, "the grey stone is in the middle of each crop"
    Path(uris[0]).unlink()
    assert find_repeats(root, images=12, overlap=0.8).sheet is not None


@pytest.mark.parametrize(
    ("options", "suspects"),
    [
        ({"images": 13}, 0),
        ({"images": 12, "classes": ["b"]}, 12),
        ({"images": 11, "min_score": 0.3}, 23),
        ({"images": 12, "where": "row_id < 11"}, 0),
        ({"images": 12, "max_area": 0.01}, 0),
        ({"images": 12, "max_area": 1.0}, 48),
        ({"images": 24, "max_area": 1.0, "levels": 2}, 24),
        ({"images": 24, "max_area": 1.0, "by": "format"}, 24),
    ],
)
def test_what_takes_part_can_be_chosen(
    cameras: tuple[str, CommitLog, list[str]], options: dict[str, Any], suspects: int
) -> None:
    assert find_repeats(cameras[0], overlap=0.8, sheet=False, **options).suspects == suspects


@pytest.mark.parametrize(
    ("uri", "levels", "folder"),
    [
        ("/a/b/c.jpg", 0, "/a/b"),
        ("/a/b/c.jpg", 1, "/a"),
        ("/a/b/c.jpg", 9, ""),
        ("s3://x/a#1/b#2.jpg", 0, "s3://x/a#1"),
        ("/a/b.tar#c.jpg", 0, "/a/b.tar"),
        ("/a/b.tar#c/d.jpg", 1, "/a/b.tar"),
        ("/a/b.parquet#17", 0, "/a/b.parquet"),
    ],
)
def test_folders(uri: str, levels: int, folder: str, cameras: tuple[str, CommitLog, list[str]]) -> None:
    boxes = FolderBoxes(open_output(cameras[0]), BOXES, BoxSelection(levels=levels))
    boxes._folder_ids(pa.table({"image_uri": [uri]}), "image_uri")
    assert list(boxes.folders) == [folder]


def test_exports_can_leave_the_boxes_out(cameras: tuple[str, CommitLog, list[str]], tmp_path: Path) -> None:
    root, log, uris = cameras
    answer = find_repeats(root, images=12, overlap=0.8, classes=["a"], sheet=False)
    opened = open_output(root)
    repeats = open_repeat_filter(opened, BOXES, answer.path)
    assert len(repeats) == 12
    is_repeat = repeats.is_repeat(np.array([0, 0, 11, 12, 2**30]), np.array([0, 1, 1, 1, 1]))
    assert is_repeat.tolist() == [False, True, True, False, False]
    with pytest.raises(UsageError, match="is about model boxes; expected others"):
        open_repeat_filter(opened, spec("others", "detection"), answer.path)
    with pytest.raises(UsageError, match="is missing; make it with cvbatch repeats"):
        open_repeat_filter(opened, BOXES, str(tmp_path / "none.parquet"))
    (old,) = log.state.files
    log.replace_files([old], write_rows(log, boxes_of_images(), uris), [(0, 1)])
    with pytest.raises(UsageError, match="was made before images were labelled again"):
        open_repeat_filter(open_output(root), BOXES, answer.path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 85}, "expected an overlap from 0.5 to 1, got 85"),
        ({"images": 1}, "expected a number of images from 2 on, got 1"),
        ({"max_area": 0}, "expected a share of the image from 0 to 1 as the largest area, got 0"),
        ({"by": "camera"}, "there is no column 'camera'"),
        ({"by": "boxes_labels"}, "--by boxes_labels: expected a column with one value for each image, got list"),
        ({"classes": ["c"]}, "there is no class 'c'; there are a, b"),
    ],
)
def test_a_wrong_request_is_one_line(
    cameras: tuple[str, CommitLog, list[str]], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        find_repeats(cameras[0], **options)


def test_the_command_prints_both_ways(
    cameras: tuple[str, CommitLog, list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["repeats", cameras[0], "--images", "12", "--iou", "0.8"]
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suspects"] == 24
    assert main([*arguments, "--no-sheet"]) == 0
    assert "100RECNX" in capsys.readouterr().out
    assert main(["repeats", cameras[0]]) == 0, "no place is no error"
    assert pd.read_parquet(f"{cameras[0]}-repeats.parquet").empty
    assert cvbatch.find_repeats is find_repeats


def test_names_on_the_sheet_can_be_told_apart() -> None:
    assert spell_in_ascii("2023/café") == "2023/cafe"
    assert spell_in_ascii("2024/猫") == r"2024/\u732b"
    assert spell_in_ascii("2024/犬") != spell_in_ascii("2024/猫")
