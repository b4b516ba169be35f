"""Truth from CVAT: the XML of "CVAT for images 1.1", as a file, several in a folder, or in the zip of an export."""

from __future__ import annotations

import io
import math
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import IO, Final
from xml.etree import ElementTree

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.storage.location import Location
from cvbatch.tasks.masks import Mask
from cvbatch.truth.files import read_truth_bytes, truth_path
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.object_list import FoundObject, ObjectList
from cvbatch.truth.objects import ObjectTruth

_LAYOUT: Final = "CVAT for images"
_EXPECTED: Final = "CVAT for images 1.1: <annotations> with <image> elements"
_SHAPES: Final = ("box", "polygon", "mask", "points")
_OTHERS: Final = ("polyline", "ellipse", "cuboid", "skeleton")


def read_cvat_xml(location: Location) -> ObjectTruth | LabelTruth:
    """Read annotations of CVAT.

    Args:
        location: An XML file, a zip with XML files, or a folder of XML files on a disk.

    Returns:
        Objects; or the tags as classes, if there are no objects. Shapes of one group and label are one object.

    Raises:
        UsageError: If it is something else, or damaged.
    """
    found = ObjectList()
    for name, file in _open_files(location):
        try:
            _add_file(found, file)
        except (ElementTree.ParseError, KeyError, ValueError, IndexError) as error:
            raise UsageError(f"{name}: expected {_EXPECTED}; {type(error).__name__}: {error}") from None
    return found.to_truth(str(location), _LAYOUT)


def _open_files(location: Location) -> Iterator[tuple[str, IO[bytes]]]:
    """The XML files of a location, with their names for messages."""
    path = truth_path(location)
    if path is not None and path.is_dir():
        for file in sorted(path.glob("*.xml")):
            yield str(file), io.BytesIO(read_truth_bytes(Location(str(file))))
        return
    data = read_truth_bytes(location)
    if not data.startswith(b"PK"):
        yield str(location), io.BytesIO(data)
        return
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in sorted(name for name in archive.namelist() if name.endswith(".xml")):
                yield f"{location}#{name}", io.BytesIO(archive.read(name))
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise UsageError(f"{location}: expected a zip as CVAT exports it; {error}") from None


def _add_file(found: ObjectList, file: IO[bytes]) -> None:
    root: ElementTree.Element | None = None
    for event, element in ElementTree.iterparse(file, events=("start", "end")):
        if root is None:
            root = element
            if root.tag != "annotations":
                raise ValueError(f"the first element is <{root.tag}>")
        if event == "end" and element.tag == "label" and element.findtext("name"):
            found.categories.append(str(element.findtext("name")))
        if event == "end" and element.tag == "track":
            found.skipped["tracks of a video"] += 1
        if event == "end" and element.tag == "image":
            _add_image(found, element)
            root.clear()


def _add_image(found: ObjectList, image: ElementTree.Element) -> None:
    width, height = int(image.attrib[WIDTH]), int(image.attrib[HEIGHT])
    objects: dict[str, FoundObject] = {}
    for number, shape in enumerate(image):
        if shape.tag in _SHAPES:
            group = shape.get("group_id", "0")
            key = f"#{number}" if group == "0" else f"{group} {shape.attrib['label']}"
            _add_shape(objects, key, number, shape, (width, height), found.skipped)
        elif shape.tag in _OTHERS:
            found.skipped[f"shapes of the kind {shape.tag}"] += 1
    tags = [tag.attrib["label"] for tag in image.iter("tag")]
    found.add_image(image.attrib["name"], (width, height), list(objects.values()), tags[0] if tags else None)


def _add_shape(
    objects: dict[str, FoundObject],
    key: str,
    number: int,
    shape: ElementTree.Element,
    size: tuple[int, int],
    skipped: Counter[str],
) -> None:
    known = objects.get(key)
    label = shape.attrib["label"]
    if shape.tag == "polygon":
        polygon = [number for point in _points_of(shape) for number in point]
        objects.setdefault(key, FoundObject(label)).polygons.append(polygon)
    elif shape.tag == "points":
        if known is None or known.points:
            skipped["points without a box in their group"] += 1
        else:
            known.points = _points_of(shape)
    else:
        free = key if known is None else f"#{number}"  # two boxes of one group are two objects
        if shape.tag == "mask":
            objects[free] = FoundObject(label, mask=_mask_of(shape, size))
        else:
            objects[free] = FoundObject(label, box=_box_edges(shape))


def _points_of(shape: ElementTree.Element) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in shape.attrib["points"].split(";")]
    return [(float(x), float(y)) for x, y in pairs]


def _box_edges(shape: ElementTree.Element) -> tuple[float, float, float, float]:
    """x, y, width, height; around a rotated box, which turns about its centre."""
    left, top, right, bottom = (float(shape.attrib[name]) for name in ("xtl", "ytl", "xbr", "ybr"))
    angle = math.radians(float(shape.get("rotation", 0)))
    width, height = right - left, bottom - top
    across = abs(width * math.cos(angle)) + abs(height * math.sin(angle))
    down = abs(width * math.sin(angle)) + abs(height * math.cos(angle))
    return left + (width - across) / 2, top + (height - down) / 2, across, down


def _mask_of(shape: ElementTree.Element, size: tuple[int, int]) -> Mask:
    """A mask from runs along the rows of a box, of which the first is outside."""
    left, top, width, height = (int(shape.attrib[name]) for name in ("left", "top", WIDTH, HEIGHT))
    runs = np.array([int(run) for run in shape.attrib["rle"].split(",")], np.int64)
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask = np.zeros((size[1], size[0]), np.bool_)
    mask[top : top + height, left : left + width] = pixels.reshape(height, width)
    return mask
