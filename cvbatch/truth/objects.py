"""Truth about objects: boxes, and masks or keypoints where the format has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cvbatch.truth.base import Bools, Ints, Truth

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ObjectTruth(Truth):
    """Objects in images; all arrays have one row per object."""

    image_indices: Ints
    """(n,): position of the image in `image_names`."""
    labels: Ints
    """(n,): position in `categories`."""
    boxes: Floats
    """(n, 4): x, y, width, height in pixels, or in shares of the image if `is_relative`."""
    is_crowd: Bools
    """(n,): whether it stands for many objects, or is too hard to count: finding it is neither right nor wrong."""
    areas: Floats | None = None
    """(n,): pixels of the object; None for those of its box."""
    segmentations: Sequence[Any] | None = None
    """(n,): as in COCO a list of polygons, a dict with `size` and `counts`, or None; polygons are relative like
    `boxes`."""
    keypoints: Floats | None = None
    """(n, keypoints, 3): x, y, and 0 (not labelled), 1 (hidden) or 2 (visible)."""
    is_relative: bool = False
    """Whether coordinates are shares of the width and the height."""
    image_facts: Sequence[Mapping[str, Any]] | None = None
    """Of LVIS, for each image: `neg_category_ids` and `not_exhaustive_category_ids`, as positions in `categories`."""
    frequencies: Sequence[str] | None = None
    """Of LVIS, for each category: r, c or f (rare, common, frequent)."""

    @property
    def label_counts(self) -> list[int]:
        """How many objects there are of each category."""
        return [int(count) for count in np.bincount(self.labels, minlength=len(self.categories))]

    def in_pixels(self, sizes: npt.NDArray[np.int32]) -> ObjectTruth:
        """The same truth in pixels.

        Args:
            sizes: (images, 2): width and height.
        """
        if not self.is_relative:
            return self
        scale = sizes.astype(np.float64)[self.image_indices]
        keypoints = self.keypoints
        if keypoints is not None:
            keypoints = keypoints * np.concatenate([scale, np.ones((len(scale), 1))], axis=1)[:, None]
        return replace(
            self,
            boxes=self.boxes * np.tile(scale, 2),
            segmentations=None
            if self.segmentations is None
            else [_scale_polygons(*pair) for pair in zip(self.segmentations, scale, strict=True)],
            keypoints=keypoints,
            is_relative=False,
        )

    def restrict(self, objects: Bools) -> ObjectTruth:
        """Only some objects; the images stay.

        Args:
            objects: (n,)
        """
        chosen = np.flatnonzero(objects)
        return replace(
            self,
            image_indices=self.image_indices[chosen],
            labels=self.labels[chosen],
            boxes=self.boxes[chosen],
            is_crowd=self.is_crowd[chosen],
            areas=None if self.areas is None else self.areas[chosen],
            segmentations=None
            if self.segmentations is None
            else [self.segmentations[index] for index in chosen.tolist()],
            keypoints=None if self.keypoints is None else self.keypoints[chosen],
        )


def _scale_polygons(polygons: Any, scale: Floats) -> Any:
    if polygons is None:
        return None
    return [(np.reshape(polygon, (-1, 2)) * scale).ravel().tolist() for polygon in polygons]
