"""COCO's instances or stuff as label maps: objects are painted, the largest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.tasks.masks import Mask, decode_mask
from cvbatch.truth.base import TruthReader
from cvbatch.truth.coco_json import COCO_READER, read_coco_json
from cvbatch.truth.mask_files import PixelTruth
from cvbatch.truth.objects import ObjectTruth

BACKGROUND_NAME: Final = "background"
"""Class of the pixels in which no object is painted."""


@dataclass(frozen=True, kw_only=True)
class PaintedTruth(PixelTruth):
    """Label maps of objects; pixels without an object are background."""

    objects: ObjectTruth

    def read_map(self, image: int, height: int, width: int) -> npt.NDArray[np.integer[Any]]:
        """See `PixelTruth.read_map`."""
        objects, sizes = self.objects, self.sizes
        if sizes is not None and sizes[image].all():
            width, height = sizes[image].tolist()
        labels = np.full((height, width), len(self.categories) - 1, np.int32, order="F")
        chosen = np.flatnonzero(objects.image_indices == image)
        areas = objects.boxes[:, 2] * objects.boxes[:, 3] if objects.areas is None else objects.areas
        for index in chosen[np.argsort(-areas[chosen], kind="stable")]:
            segmentation = None if objects.segmentations is None else objects.segmentations[index]
            if segmentation is None:
                name = self.image_names[image]
                raise UsageError(f"{self.source}: expected a mask for each object of {name}, got one without")
            labels[_decode_segmentation(segmentation, height, width)] = objects.labels[index]
        return labels


def read_painted_objects(location: Location) -> PaintedTruth:
    """Read a file of COCO's instances or stuff, to be painted.

    Raises:
        UsageError: If it does not parse, or has no masks.
    """
    objects = read_coco_json(location)
    if objects.segmentations is None:
        raise UsageError(f"{location}: expected objects with masks (segmentation), got boxes only")
    return PaintedTruth(
        source=objects.source,
        layout=objects.layout,
        image_names=objects.image_names,
        has_suffixes=objects.has_suffixes,
        categories=(*objects.categories, BACKGROUND_NAME),
        sizes=objects.sizes,
        notes=(*objects.notes, "objects are painted, the largest first; pixels without one are background"),
        background=len(objects.categories),
        objects=objects,
    )


def _decode_segmentation(segmentation: Any, height: int, width: int) -> Mask:
    """Polygons, or a run-length encoding, compressed or not, as a mask."""
    if isinstance(segmentation, list):
        encoded = coco.merge(coco.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], Sequence) and not isinstance(segmentation["counts"], str | bytes):
        encoded = coco.frPyObjects(segmentation, *segmentation["size"])
    else:
        encoded = segmentation
    counts = encoded["counts"]
    mask_height, mask_width = encoded["size"]
    return decode_mask(counts.encode() if isinstance(counts, str) else counts, mask_height, mask_width)


PAINTED_READER: Final = TruthReader(COCO_READER.layout, COCO_READER.example, COCO_READER.accepts, read_painted_objects)
