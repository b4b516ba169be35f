"""Collects objects one by one, for formats that are read so, and makes truth of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pycocotools import mask as coco

from cvbatch.tasks.masks import Mask, encode_mask
from cvbatch.truth.labels import LabelTruth
from cvbatch.truth.objects import ObjectTruth

Polygons = list[list[float]]


@dataclass(slots=True)
class FoundObject:
    """One object."""

    label: str
    box: tuple[float, float, float, float] | None = None
    """x, y, width, height in pixels; None for the box around the polygons or the mask."""
    polygons: Polygons = field(default_factory=list)
    mask: Mask | None = None
    points: list[tuple[float, float]] = field(default_factory=list)
    """Keypoints."""


@dataclass(slots=True)
class ObjectList:
    """Images with objects or classes, in the order of their files."""

    names: list[str] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    objects: list[list[FoundObject]] = field(default_factory=list)
    """Of each image."""
    classes: list[str | None] = field(default_factory=list)
    """Class of each whole image."""
    categories: list[str] = field(default_factory=list)
    """Names that the file declares; those that it only uses come after them."""
    skipped: Counter[str] = field(default_factory=Counter)
    """What takes no part, by what it is."""

    def add_image(self, name: str, size: tuple[int, int], objects: Sequence[FoundObject], label: str | None) -> None:
        """Add an image."""
        self.names.append(name)
        self.sizes.append(size)
        self.objects.append(list(objects))
        self.classes.append(label)

    def to_truth(self, source: str, layout: str) -> ObjectTruth | LabelTruth:
        """Truth about objects; or one class for each image, if there are no objects.

        Args:
            source: The file in messages.
            layout: Name of the format.
        """
        used = [found.label for of_image in self.objects for found in of_image]
        has_classes = not used and any(self.classes)
        labels = [label for label in self.classes if label is not None] if has_classes else used
        categories = tuple(dict.fromkeys([*self.categories, *labels]))
        if has_classes:
            return self._to_labels(source, layout, categories)
        return self._to_objects(source, layout, categories)

    def _notes(self) -> tuple[str, ...]:
        return tuple(f"{count:,} {what} take no part" for what, count in sorted(self.skipped.items()))

    def _to_labels(self, source: str, layout: str, categories: tuple[str, ...]) -> LabelTruth:
        kept = [index for index, label in enumerate(self.classes) if label is not None]
        if len(kept) < len(self.names):
            self.skipped["images without a class"] += len(self.names) - len(kept)
        positions = {name: position for position, name in enumerate(categories)}
        return LabelTruth(
            source=source,
            layout=layout,
            image_names=[self.names[index] for index in kept],
            categories=categories,
            sizes=np.array([self.sizes[index] for index in kept], np.int32).reshape(-1, 2),
            notes=self._notes(),
            labels=np.array([positions[str(self.classes[index])] for index in kept], np.int64),
        )

    def _to_objects(self, source: str, layout: str, categories: tuple[str, ...]) -> ObjectTruth:
        positions = {name: position for position, name in enumerate(categories)}
        objects = [found for of_image in self.objects for found in of_image]
        counts = [len(of_image) for of_image in self.objects]
        facts = [
            _describe(found, size)
            for of_image, size in zip(self.objects, self.sizes, strict=True)
            for found in of_image
        ]
        segmentations = [segmentation for _, _, segmentation in facts]
        points = max((len(found.points) for found in objects), default=0)
        keypoints = np.zeros((len(objects), points, 3))
        for row, found in enumerate(objects):
            for column, point in enumerate(found.points):
                keypoints[row, column] = (*point, 2)
        return ObjectTruth(
            source=source,
            layout=layout,
            image_names=self.names,
            categories=categories,
            sizes=np.array(self.sizes, np.int32).reshape(-1, 2),
            notes=self._notes(),
            image_indices=np.repeat(np.arange(len(counts)), counts).astype(np.int64),
            labels=np.array([positions[found.label] for found in objects], np.int64),
            boxes=np.array([box for box, _, _ in facts], np.float64).reshape(-1, 4),
            is_crowd=np.zeros(len(objects), np.bool_),
            areas=np.array([area for _, area, _ in facts], np.float64),
            segmentations=segmentations if any(value is not None for value in segmentations) else None,
            keypoints=keypoints if points else None,
        )


def _describe(found: FoundObject, size: tuple[int, int]) -> tuple[tuple[float, ...], float, Any]:
    """Box, area and segmentation of an object."""
    if found.mask is not None:
        segmentation: Any = {"size": list(found.mask.shape), "counts": encode_mask(found.mask).decode()}
        encoded = segmentation
    elif found.polygons:
        segmentation = found.polygons
        encoded = coco.merge(coco.frPyObjects(found.polygons, size[1], size[0]))
    else:
        x, y, width, height = found.box or (0.0, 0.0, 0.0, 0.0)
        return (x, y, width, height), width * height, None
    box = found.box or tuple(coco.toBbox(encoded).tolist())
    return box, float(coco.area(encoded)), segmentation
