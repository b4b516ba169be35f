"""YOLO's folders: boxes, polygons, keypoints, and images without objects."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.truth.objects import ObjectTruth
from cvbatch.truth.yolo_folder import YOLO_READER, read_yolo_folder


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def read(folder: Path, files: dict[str, str], below: str = "") -> ObjectTruth:
    location = Location.from_uri(str(write(folder, files) / below))
    assert YOLO_READER.accepts(location)
    return read_yolo_folder(location)


def test_boxes_beside_images(tmp_path: Path) -> None:
    truth = read(
        tmp_path,
        {
            "data.yaml": "path: /elsewhere\nnames: {0: cat, 2: dog}\n",
            "images/val/a.jpg": "",
            "images/val/b.jpg": "",
            "labels/val/a.txt": "2 0.5 0.5 0.25 0.5\n\n0 0 0 0.1 0.1\n",
            "labels/val/c.txt": "",
        },
    )
    assert truth.categories == ("cat", "class 1", "dog")
    assert (truth.image_names, truth.has_suffixes) == (["val/a", "val/b", "val/c"], False)
    assert (truth.image_indices.tolist(), truth.labels.tolist()) == ([0, 0], [2, 0])
    assert truth.boxes.tolist() == [[0.375, 0.25, 0.25, 0.5], [-0.05, -0.05, 0.1, 0.1]]
    assert truth.notes == ("images of the truth without a text file, so without objects: 1",)
    assert truth.is_relative


def test_a_split_finds_the_names_above_it(tmp_path: Path) -> None:
    files = {"classes.txt": "cat\ndog\n", "labels/val/a.txt": "1 .5 .5 1 1", "labels/train/b.txt": ""}
    truth = read(tmp_path, files, "labels/val")
    assert (truth.image_names, truth.categories) == (["a"], ("cat", "dog"))


def test_the_yaml_file_stands_for_its_folder(tmp_path: Path) -> None:
    truth = read(tmp_path, {"my.yaml": "names: [cat]\n", "labels/a.txt": "0 .5 .5 1 1"}, "my.yaml")
    assert truth.image_names == ["a"]


def test_polygons(tmp_path: Path) -> None:
    truth = read(tmp_path, {"data.yaml": "names: [cat]", "a.txt": "0 0 0 0.5 0 0.5 0.25\n0 .5 .5 .5 .5"})
    assert truth.segmentations == [[[0, 0, 0.5, 0, 0.5, 0.25]], None]
    assert truth.boxes.tolist() == [[0, 0, 0.5, 0.25], [0.25, 0.25, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("shape", "numbers", "points"),
    [
        ([2, 3], "0.1 0.2 2 0 0 0", [[0.1, 0.2, 2], [0, 0, 0]]),
        ([2, 2], "0.1 0.2 0 0", [[0.1, 0.2, 2], [0, 0, 0]]),
    ],
)
def test_keypoints(tmp_path: Path, shape: list[int], numbers: str, points: list[list[float]]) -> None:
    yaml = f"names: [person]\nkpt_shape: {shape}\n"
    truth = read(tmp_path, {"data.yaml": yaml, "labels/a.txt": f"0 .5 .5 1 1 {numbers}"})
    assert truth.keypoints is not None
    assert truth.keypoints.tolist() == [points]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": "cat 1 2 3 4"}, r"a.txt, line 1: expected a class and numbers, got 'cat 1 2 3 4'"),
        ({"a.txt": "\n3 .1 .1 .1 .1"}, r"a.txt, line 2: expected a class from 0 to 1, got 3"),
        ({"a.txt": "0 320 240 10 10"}, r"expected shares of the image from 0 to 1, got '0 320 240 10 10'"),
        ({"a.txt": "0 .1 .1 .1 .1 .9"}, r"expected 5 numbers \(a box\), or .*, got 6 numbers"),
        ({"a.txt": "", "data.yaml": "nc: 2"}, r"expected names: with the names of the classes, got None"),
        ({"a.txt": "", "data.yaml": "a: [b"}, r"expected YAML with names"),
        ({"a.txt": "", "data.yaml": "names: [x]\nkpt_shape: 3"}, r"expected kpt_shape: \[keypoints, 2 or 3\], got 3"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        read(tmp_path, {"data.yaml": "names: [cat, dog]", **files})
    assert "\n" not in str(error.value)


def test_other_folders_are_not_accepted(tmp_path: Path) -> None:
    write(tmp_path, {"x/photo.jpg": "", "y/notes.txt": "x", "y/classes.txt": "x"})
    assert [YOLO_READER.accepts(Location.from_uri(str(tmp_path / name))) for name in "xy"] == [False, False]
    assert not YOLO_READER.accepts(Location.from_uri("s3://bucket/labels"))
