"""Pascal VOC's folders: the pixel that is the first, and objects that are difficult."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.truth.objects import ObjectTruth
from cvbatch.truth.voc_folder import VOC_READER, read_voc_folder

OBJECT = "<object><name>{}</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"


def box(*corners: float) -> str:
    names = ("xmin", "ymin", "xmax", "ymax")
    return "".join(f"<{name}>{corner}</{name}>" for name, corner in zip(names, corners, strict=True))


def read(folder: Path, *images: str) -> ObjectTruth:
    (folder / "Annotations").mkdir()
    for index, content in enumerate(images):
        text = content if content.startswith("<") else f"<annotation>{content.lstrip()}</annotation>"
        (folder / "Annotations" / f"{index}.xml").write_text(text)
    location = Location.from_uri(str(folder))
    assert VOC_READER.accepts(location)
    return read_voc_folder(location)


def test_boxes_are_counted_from_one(tmp_path: Path) -> None:
    size = "<size><width>9</width><height>8</height></size>"
    image = f" <filename>x.png</filename>{size}{OBJECT.format('dog', 0, box(1, 1, 4, 3))}"
    truth = read(tmp_path, image + OBJECT.format("cat", 1, box(2.5, 1, 9, 8)), " ")
    assert (truth.image_names, truth.categories) == (["x.png", "1.jpg"], ("cat", "dog"))
    assert truth.boxes.tolist() == [[0, 0, 4, 3], [1.5, 0, 7.5, 8]]
    assert (truth.labels.tolist(), truth.is_crowd.tolist()) == ([1, 0], [False, True])
    assert truth.sizes is not None
    assert truth.sizes.tolist() == [[9, 8], [0, 0]]
    assert truth.notes == ("objects that are marked as difficult: 1; finding them is neither right nor wrong",)


def test_boxes_that_begin_with_zero_are_counted_from_zero(tmp_path: Path) -> None:
    truth = read(tmp_path, " " + OBJECT.format("dog", 0, box(0, 2, 4, 3)))
    assert truth.boxes.tolist() == [[0, 2, 4, 1]]
    assert truth.notes == ("pixels are counted from 0, because a box begins there",)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("<annotation>", "expected an annotation of Pascal VOC; no element found"),
        ("<svg/>", "expected an annotation of Pascal VOC, got <svg>"),
        (" <object><name>x</name></object>", r"0.xml: expected bndbox with xmin, ymin, xmax, ymax in each object"),
        (" " + OBJECT.format("", 0, box(1, 1, 2, 2)), r"0.xml: expected name in each object, got none"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, image: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        read(tmp_path, image)
    assert "\n" not in str(error.value)
