"""Annotations of CVAT: shapes become objects, shapes of a group one object, and the rest is counted."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cvat_sdk.masks import encode_mask

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.tasks.masks import decode_mask
from cvbatch.truth.cvat_xml import read_cvat_xml
from cvbatch.truth.labels import LabelTruth

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta><task><labels>'
LABELS = "<label><name>dog</name></label><label><name>犬, groß</name></label></labels></task></meta>"


def write(path: Path, *images: str) -> Path:
    elements = [
        f'<image id="{number}" name="x/{path.stem}-{number}.jpg" width="40" height="20">{shapes}</image>'
        for number, shapes in enumerate(images)
    ]
    path.write_text(HEAD + LABELS + "".join(elements) + "</annotations>", encoding="utf-8")
    return path


def read(path: Path) -> Any:
    return read_cvat_xml(Location.from_uri(str(path)))


def shape(tag: str, label: str = "dog", **attributes: Any) -> str:
    text = " ".join(f'{name}="{value}"' for name, value in attributes.items())
    return f'<{tag} label="{label}" occluded="0" source="manual" z_order="0" {text}></{tag}>'


BOX = {"xtl": 1.5, "ytl": 2, "xbr": 11.5, "ybr": 6}


def test_boxes_and_images_without_any(tmp_path: Path) -> None:
    turned = shape("box", rotation=90, **BOX)
    truth = read(write(tmp_path / "a.xml", shape("box", "犬, groß", **BOX) + turned, ""))
    assert truth.image_names == ["x/a-0.jpg", "x/a-1.jpg"]
    assert truth.categories == ("dog", "犬, groß")
    assert truth.labels.tolist() == [1, 0]
    assert np.allclose(truth.boxes, [[1.5, 2, 10, 4], [4.5, -1, 4, 10]])
    assert truth.sizes.tolist() == [[40, 20]] * 2


def test_masks_of_the_sdk_and_polygons_of_a_group(tmp_path: Path) -> None:
    bitmap = np.random.default_rng(0).random((20, 40)) > 0.7
    *runs, left, top, right, bottom = (int(number) for number in encode_mask(bitmap))
    rle = ", ".join(map(str, runs))
    mask = shape("mask", rle=rle, left=left, top=top, width=right - left + 1, height=bottom - top + 1)
    polygons = [shape("polygon", points=text, group_id=3) for text in ("0,0;4,0;4,2;0,2", "10,10;14,10;14,12;10,12")]
    truth = read(write(tmp_path / "a.xml", mask + "".join(polygons)))
    assert np.array_equal(decode_mask(truth.segmentations[0]["counts"].encode(), 20, 40), bitmap)
    assert truth.segmentations[1] == [[0, 0, 4, 0, 4, 2, 0, 2], [10, 10, 14, 10, 14, 12, 10, 12]]
    assert truth.areas.tolist() == [bitmap.sum(), 16]
    assert truth.boxes[1].tolist() == [0, 0, 14, 12]


def test_points_of_a_group_belong_to_its_box_and_the_rest_is_said(tmp_path: Path) -> None:
    shapes = shape("box", group_id=1, **BOX) + shape("points", group_id=1, points="1,2;3,4")
    shapes += shape("points", points="1,1") + shape("polyline", points="1,1;2,2")
    truth = read(write(tmp_path / "a.xml", shapes))
    assert truth.keypoints.tolist() == [[[1, 2, 2], [3, 4, 2]]]
    assert truth.notes == (
        "1 points without a box in their group take no part",
        "1 shapes of the kind polyline take no part",
    )


def test_folders_and_zips_of_files_and_tags(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write(folder / "a.xml", '<tag label="dog" source="manual"></tag>')
    write(folder / "b.xml", "", '<tag label="犬, groß"></tag>')
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(folder / "a.xml", "annotations.xml")
    truth = read(folder)
    assert isinstance(truth, LabelTruth)
    assert (truth.image_names, truth.labels.tolist()) == (["x/a-0.jpg", "x/b-1.jpg"], [0, 1])
    assert read(tmp_path / "task.zip").image_names == ["x/a-0.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation></annotation>", "the first element is <annotation>"),
        (HEAD, "ParseError"),
        (f"{HEAD}{LABELS}<image id='0' name='a.jpg' width='a' height='1'></image></annotations>", "invalid literal"),
        (f"{HEAD}{LABELS}</annotations>", "expected CVAT for images with images, got none"),
        ("PK\x03\x04", "expected a zip as CVAT exports it"),
    ],
)
def test_other_files_are_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "a.xml")
