"""Truth from Label Studio: the JSON that it exports, with boxes, brushes, polygons, keypoints or choices."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.storage.location import Location
from cvbatch.truth.files import parse_json, read_truth_bytes
from cvbatch.truth.label_studio_brush import decode_brush
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.object_list import FoundObject, ObjectList
from cvbatch.truth.objects import ObjectTruth

_LAYOUT: Final = "Label Studio JSON"
_EXPECTED: Final = "Label Studio's export as JSON: a list of tasks with annotations"
_UPLOAD_PREFIX: Final = re.compile(r"^[0-9a-f]{8}-")
_OWN_PART: Final = re.compile(r"^(\d+)_\d+$")
"""Further parts of an object that `cvbatch export` wrote as several polygons."""
_POINT_NAME: Final = re.compile(r"^point_(\d+)$")
_LABEL_FIELDS: Final = ("rectanglelabels", "brushlabels", "polygonlabels", "keypointlabels", "labels")


def read_label_studio(location: Location) -> ObjectTruth | LabelTruth:
    """Read an export of Label Studio; its JSON, not its JSON-MIN.

    Args:
        location: The file, on a disk or in a bucket.

    Returns:
        The newest annotation of each task that is not cancelled. Tasks without one are left out, with a note.

    Raises:
        UsageError: If it is something else, or damaged.
    """
    source = str(location)
    tasks = parse_json(read_truth_bytes(location), source, _EXPECTED)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "data" in task for task in tasks):
        raise UsageError(f"{source}: expected {_EXPECTED}; got JSON of another form; choose JSON, not JSON-MIN")
    found = ObjectList()
    for task in tasks:
        try:
            _add_task(found, task)
        except (KeyError, TypeError, ValueError, UsageError) as error:
            name = task["data"].get("name") or task.get("id")
            raise UsageError(f"{source}: task {name}: expected a region as Label Studio writes it; {error}") from None
    return found.to_truth(source, _LAYOUT)


def _add_task(found: ObjectList, task: Mapping[str, Any]) -> None:
    annotations = [given for given in task.get("annotations") or [] if not given.get("was_cancelled")]
    if not annotations:
        found.skipped["tasks without an annotation"] += 1
        return
    results = max(annotations, key=lambda given: str(given.get("updated_at") or ""))["result"]
    size = next(
        ((part["original_width"], part["original_height"]) for part in results if "original_width" in part), (0, 0)
    )
    objects, label = _read_results(results, found.skipped)
    found.add_image(_image_name(task["data"]), size, objects, label)


def _image_name(data: Mapping[str, Any]) -> str:
    """The path of an image: as `cvbatch export` wrote it, or as Label Studio's address of a file says."""
    if isinstance(data.get("name"), str):
        return str(data["name"])
    address = next((value for value in (data.get("image"), *data.values()) if isinstance(value, str)), "")
    if not address:
        raise ValueError("a task has no image")
    parts = urlsplit(address)
    if parts.path.endswith("/data/local-files/"):
        return parse_qs(parts.query)["d"][0]
    if "/data/upload/" in parts.path:
        return _UPLOAD_PREFIX.sub("", unquote(parts.path.rpartition("/")[2]))
    return address


def _read_results(results: list[dict[str, Any]], skipped: Counter[str]) -> tuple[list[FoundObject], str | None]:
    """Objects and the choice of an annotation; a region may be split into results with the same id."""
    regions: dict[str, dict[str, Any]] = {}
    label = None
    for number, result in enumerate(results):
        if result["type"] == "choices":
            label = result["value"]["choices"][0]
            continue
        region = regions.setdefault(result.get("id") or f"#{number}", {**result, "value": {}})
        region["value"] |= result.get("value") or {}
    objects: dict[str, FoundObject] = {}
    for identity, region in regions.items():
        _add_region(objects, identity, region, skipped)
    return list(objects.values()), label


def _add_region(objects: dict[str, FoundObject], identity: str, region: dict[str, Any], skipped: Counter[str]) -> None:
    value = region["value"]
    labels = next((value[name] for name in _LABEL_FIELDS if value.get(name)), None)
    if labels is None:
        skipped["regions without a label, or of other kinds"] += 1
        return
    width, height = region["original_width"], region["original_height"]
    label = labels[0]
    if "rle" in value:
        objects[identity] = FoundObject(label, mask=decode_brush(value["rle"], height, width))
    elif "points" in value:
        own_part = _OWN_PART.match(identity)
        polygon = [
            number * scale / 100
            for point in value["points"]
            for number, scale in zip(point, (width, height), strict=True)
        ]
        objects.setdefault(own_part[1] if own_part else identity, FoundObject(label)).polygons.append(polygon)
    elif "keypointlabels" in value:
        _add_point(
            objects.get(region.get("parentID", "")),
            label,
            (value["x"] * width / 100, value["y"] * height / 100),
            skipped,
        )
    elif HEIGHT in value:
        objects[identity] = FoundObject(label, box=_box_of(value, width, height))
    else:
        skipped["regions without a label, or of other kinds"] += 1


def _add_point(parent: FoundObject | None, label: str, point: tuple[float, float], skipped: Counter[str]) -> None:
    number = _POINT_NAME.match(label)
    if parent is None or number is None or int(number[1]) != len(parent.points) + 1:
        skipped["keypoints without a box, or in another order"] += 1
    else:
        parent.points.append(point)


def _box_of(value: Mapping[str, Any], width: int, height: int) -> tuple[float, float, float, float]:
    """The box in pixels; around a rotated one, which turns about its upper left corner."""
    x, y = value["x"] * width / 100, value["y"] * height / 100
    across, down = value[WIDTH] * width / 100, value[HEIGHT] * height / 100
    angle = math.radians(value.get("rotation") or 0)
    if not angle:
        return x, y, across, down
    corners = [(a * across, b * down) for a in (0, 1) for b in (0, 1)]
    xs = [x + a * math.cos(angle) - b * math.sin(angle) for a, b in corners]
    ys = [y + a * math.sin(angle) + b * math.cos(angle) for a, b in corners]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)
