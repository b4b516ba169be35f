"""Truth about objects as Pascal VOC writes it: an XML file for each image.

M. Everingham et al.: The PASCAL Visual Object Classes (VOC) Challenge. IJCV 2010; its development kit says that the
first pixel is (1, 1) and that the last one belongs to the box.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.storage.location import Location
from cvbatch.truth.base import TruthReader
from cvbatch.truth.files import truth_path
from cvbatch.truth.objects import ObjectTruth

_LAYOUT: Final = "Pascal VOC"
_CORNERS: Final = ("xmin", "ymin", "xmax", "ymax")


def read_voc_folder(location: Location) -> ObjectTruth:
    """Read a folder of Pascal VOC's annotations.

    Args:
        location: The folder with the XML files, or the one above its `Annotations`.

    Returns:
        The objects. Objects that are marked as difficult are like crowds: finding them is neither right nor wrong.

    Raises:
        UsageError: If a file is damaged.
    """
    path = truth_path(location)
    assert path is not None
    files = list(_xml_files(path))
    images = [_read_image(file) for file in files]
    parsed = [(index, element, files[index]) for index, image in enumerate(images) for element in image.iter("object")]
    names = [_text(element, "name", file) for _, element, file in parsed]
    categories = sorted(set(names))
    corners = np.array([_read_corners(element, file) for _, element, file in parsed], np.float64).reshape(-1, 4)
    difficult = np.array([element.findtext("difficult", "0").strip() == "1" for _, element, _ in parsed], np.bool_)
    starts_with_zero = bool((corners[:, :2] == 0).any() and (corners % 1 == 0).all())
    boxes = np.column_stack([corners[:, :2] - (0 if starts_with_zero else 1), corners[:, 2:]])
    boxes[:, 2:] -= boxes[:, :2]
    notes = ["pixels are counted from 0, because a box begins there"] if starts_with_zero else []
    if difficult.any():
        count = int(difficult.sum())
        notes.append(f"objects that are marked as difficult: {count:,}; finding them is neither right nor wrong")
    return ObjectTruth(
        source=str(location),
        layout=_LAYOUT,
        image_names=[_image_name(*pair) for pair in zip(images, files, strict=True)],
        categories=tuple(categories),
        sizes=np.array([_read_size(image) for image in images], np.int32).reshape(-1, 2),
        notes=tuple(notes),
        image_indices=np.array([index for index, _, _ in parsed], np.int64),
        labels=np.searchsorted(categories, names).astype(np.int64) if names else np.zeros(0, np.int64),
        boxes=boxes,
        is_crowd=difficult,
    )


def _looks_like_voc(location: Location) -> bool:
    path = truth_path(location)
    return path is not None and next(_xml_files(path), None) is not None


VOC_READER: Final = TruthReader(_LAYOUT, "a folder with Annotations/*.xml", _looks_like_voc, read_voc_folder)


def _xml_files(folder: Path) -> Iterator[Path]:
    annotations = folder / "Annotations"
    yield from sorted((annotations if annotations.is_dir() else folder).rglob("*.xml"))


def _read_image(file: Path) -> ElementTree.Element:
    try:
        root = ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise UsageError(f"{file}: expected an annotation of Pascal VOC; {error}") from None
    if root.tag != "annotation":
        raise UsageError(f"{file}: expected an annotation of Pascal VOC, got <{root.tag}>")
    return root


def _image_name(image: ElementTree.Element, file: Path) -> str:
    name = image.findtext("filename", "").strip() or file.stem
    return name if Path(name).suffix else f"{name}.jpg"


def _read_size(image: ElementTree.Element) -> tuple[int, int]:
    size = image.find("size")
    if size is None:
        return 0, 0
    width, height = (size.findtext(name, "0").strip() for name in (WIDTH, HEIGHT))
    return (int(width), int(height)) if width.isdecimal() and height.isdecimal() else (0, 0)


def _read_corners(element: ElementTree.Element, file: Path) -> list[float]:
    box = element.find("bndbox")
    texts = ["" if box is None else box.findtext(name, "") for name in _CORNERS]
    try:
        return [float(text) for text in texts]
    except ValueError:
        raise UsageError(f"{file}: expected bndbox with {', '.join(_CORNERS)} in each object, got {texts}") from None


def _text(element: ElementTree.Element, name: str, file: Path) -> str:
    text = element.findtext(name, "").strip()
    if not text:
        raise UsageError(f"{file}: expected {name} in each object, got none")
    return text
