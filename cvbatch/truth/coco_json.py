"""Truth about objects as COCO and LVIS write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.errors import UsageError
from cvbatch.schema import HEIGHT, WIDTH
from cvbatch.storage.location import Location
from cvbatch.truth.base import Ints, TruthReader
from cvbatch.truth.coco_numbering import describe_numbering, explain_unknown_category
from cvbatch.truth.files import parse_json, read_truth_bytes
from cvbatch.truth.objects import Floats, ObjectTruth

Records = Sequence[dict[str, Any]]

_LAYOUT: Final = "COCO JSON"
_EXPECTED: Final = 'COCO JSON: {"images": [...], "annotations": [...], "categories": [...]}'
_FEDERATED: Final = ("neg_category_ids", "not_exhaustive_category_ids")


def read_coco_json(location: Location) -> ObjectTruth:
    """Read a file of COCO's or LVIS's instances or keypoints.

    Args:
        location: The file, on a disk or in a bucket.

    Returns:
        The objects in the order of the file. Annotations of images that the file does not list are left out, with a
        note.

    Raises:
        UsageError: If it is something else, or damaged.
    """
    content = parse_json(read_truth_bytes(location), str(location), _EXPECTED)
    return _CocoFile(str(location), content).to_truth()


def _looks_like_coco(location: Location) -> bool:
    if not location.uri.lower().endswith(".json"):
        return False
    if not location.is_local:
        return True
    try:
        with open(location.uri, "rb") as file:
            return not file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError:
        return True  # reading it says why


COCO_READER: Final = TruthReader(_LAYOUT, "instances.json", _looks_like_coco, read_coco_json)


class _CocoFile:
    """A parsed file; methods turn its records into columns."""

    def __init__(self, source: str, content: Any) -> None:
        self._source = source
        self._images = self._records(content, "images")
        self._annotations = self._records(content, "annotations")
        self._categories = self._records(content, "categories")
        self._names = [str(name) for name in self._column(self._categories, "categories", "name")]
        self._category_ids = self._id_column(self._categories, "categories", "id")

    def to_truth(self) -> ObjectTruth:
        image_ids = self._id_column(self._images, "images", "id")
        objects = self._positions(image_ids, self._id_column(self._annotations, "annotations", "image_id"))
        stray = int((objects < 0).sum())
        kept = [record for record, position in zip(self._annotations, objects, strict=True) if position >= 0]
        notes = describe_numbering(self._names, self._category_ids)
        if stray:
            notes += (f"annotations of images that the file does not list: {stray:,}; they take no part",)
        is_federated = any(_FEDERATED[0] in image for image in self._images[:1])
        return ObjectTruth(
            source=self._source,
            layout="LVIS JSON" if is_federated else _LAYOUT,
            image_names=[self._image_name(image) for image in self._images],
            categories=tuple(self._names),
            sizes=self._image_sizes(),
            notes=notes,
            image_indices=objects[objects >= 0],
            labels=self._labels(kept),
            boxes=self._numbers(kept, "bbox", 4),
            is_crowd=np.array([bool(record.get("iscrowd")) for record in kept], np.bool_),
            areas=self._numbers(kept, "area", 1)[:, 0] if all("area" in record for record in kept) else None,
            segmentations=self._segmentations(kept),
            keypoints=self._keypoints(kept),
            image_facts=[self._federated_facts(image) for image in self._images] if is_federated else None,
            frequencies=[str(category.get("frequency", "f")) for category in self._categories]
            if is_federated
            else None,
        )

    def _records(self, content: Any, name: str) -> Records:
        records = content.get(name) if isinstance(content, dict) else None
        if isinstance(records, list) and all(isinstance(record, dict) for record in records):
            return records
        got = f"the keys {', '.join(map(str, list(content)[:5]))}" if isinstance(content, dict) else _shorten(content)
        raise UsageError(f"{self._source}: expected {_EXPECTED}; got {got}")

    def _column(self, records: Records, where: str, name: str) -> list[Any]:
        try:
            return [record[name] for record in records]
        except KeyError:
            record = next(record for record in records if name not in record)
            raise self._wrong(where, f"{name!r} in each", record) from None

    def _id_column(self, records: Records, where: str, name: str) -> Ints:
        values = self._column(records, where, name)
        try:
            return np.array(values or np.zeros(0), np.int64)
        except (ValueError, TypeError, OverflowError):
            record = next(record for record in records if type(record[name]) is not int)
            raise self._wrong(where, f"a number as {name!r}", record) from None

    def _numbers(self, records: Records, name: str, width: int) -> Floats:
        values = self._column(records, "annotations", name)
        try:
            numbers = np.array(values, np.float64).reshape(len(values), width)
        except (ValueError, TypeError):
            numbers = np.full((1, 1), np.nan)
        if np.isfinite(numbers).all():
            return numbers
        record = next(record for record in records if not _are_finite(record[name], width))
        raise self._wrong("annotations", f"{width} numbers as {name!r}", record)

    def _positions(self, known: Ints, wanted: Ints) -> Ints:
        """Position of each id among the known ones, or -1."""
        order = np.argsort(known, kind="stable")
        if not len(known):
            return np.full(len(wanted), -1, np.int64)
        places = np.minimum(np.searchsorted(known, wanted, sorter=order), len(known) - 1)
        positions = order[places]
        return np.where(known[positions] == wanted, positions, -1)

    def _labels(self, kept: Records) -> Ints:
        ids = self._id_column(kept, "annotations", "category_id")
        labels = self._positions(self._category_ids, ids)
        if (labels < 0).any():
            unknown = sorted(set(ids[labels < 0].tolist()))
            raise UsageError(f"{self._source}: {explain_unknown_category(self._names, self._category_ids, unknown)}")
        return labels

    def _image_name(self, image: dict[str, Any]) -> str:
        name = image.get("file_name") or image.get("coco_url")
        if isinstance(name, str):
            return name
        raise self._wrong("images", "'file_name' in each", image)

    def _image_sizes(self) -> npt.NDArray[np.int32]:
        pairs = [(image.get(WIDTH) or 0, image.get(HEIGHT) or 0) for image in self._images]
        try:
            return np.array(pairs, np.int32).reshape(-1, 2)
        except (ValueError, TypeError, OverflowError):
            raise self._wrong("images", f"numbers as {WIDTH!r} and {HEIGHT!r}", self._images[0]) from None

    def _segmentations(self, kept: Records) -> list[Any] | None:
        values = [record.get("segmentation") or None for record in kept]
        return values if any(value is not None for value in values) else None

    def _keypoints(self, kept: Records) -> Floats | None:
        lengths = {len(record["keypoints"]) for record in kept if record.get("keypoints")}
        if not lengths:
            return None
        width = max(lengths)
        if len(lengths) > 1 or width % 3:
            raise UsageError(
                f"{self._source}: expected x, y, v of the same keypoints in all annotations, got {sorted(lengths)} "
                "numbers"
            )
        filled = [{"keypoints": record.get("keypoints") or [0] * width} for record in kept]
        return self._numbers(filled, "keypoints", width).reshape(-1, width // 3, 3)

    def _federated_facts(self, image: dict[str, Any]) -> dict[str, list[int]]:
        return {
            name: self._positions(self._category_ids, np.array(image.get(name, []), np.int64)).tolist()
            for name in _FEDERATED
        }

    def _wrong(self, where: str, expected: str, record: dict[str, Any]) -> UsageError:
        return UsageError(f"{self._source}: {where}: expected {expected}, got {_shorten(record)}")


def _are_finite(value: Any, width: int) -> bool:
    try:
        numbers = np.array(value, np.float64).reshape(width)
    except (ValueError, TypeError):
        return False
    return bool(np.isfinite(numbers).all())


def _shorten(value: Any, limit: int = 80) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
