"""Images with what a model found in them, as they go to the formats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.schema import HEIGHT, WIDTH


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBatch:
    """Some images with what the model found in them; all parts are aligned."""

    images: pa.Table
    """(n rows): `row_id`, `image_uri`, `width`, `height` of the upright image, and the columns that were asked for."""
    names: pa.Array
    """(n,) string: the path of each image below the root of the source, such as `2024/a.jpg`; see `export.names`."""
    elements: pa.Table
    """One row per box, per class in an image, or per image, by the task of the model: `label`, `label_id`, `score`,
    and `x_min`, `y_min`, `x_max`, `y_max`, `mask`, `keypoints` of boxes, or `area`, `mask` of segments (no score).
    Those of an image follow each other, in the order of the images. Without a model it has no columns and no rows."""
    offsets: npt.NDArray[np.int64]
    """(n + 1,): image `i` has the elements from `offsets[i]` up to `offsets[i + 1]`, possibly none."""

    @property
    def image_indices(self) -> npt.NDArray[np.int64]:
        """For each element, the position of its image."""
        counts = np.diff(self.offsets)
        return np.repeat(np.arange(len(counts)), counts)

    @property
    def element_positions(self) -> npt.NDArray[np.int64]:
        """For each element, its position in its image."""
        count = self.elements.num_rows
        return np.arange(count) - np.repeat(self.offsets[:-1], np.diff(self.offsets))

    def slice(self, start: int, stop: int) -> ImageBatch:
        """The images from `start` up to `stop`, with their elements."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        return ImageBatch(
            images=self.images.slice(start, stop - start),
            names=self.names.slice(start, stop - start),
            elements=self.elements.slice(first, last - first),
            offsets=self.offsets[start : stop + 1] - first,
        )

    def image_numbers(self, name: str) -> npt.NDArray[np.int64]:
        """A column of whole numbers of the images, such as `width`."""
        numbers: npt.NDArray[np.int64] = self.images[name].to_numpy().astype(np.int64)
        return numbers

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """(n, 2): width and height of each upright image, in pixels."""
        return np.stack([self.image_numbers(WIDTH), self.image_numbers(HEIGHT)], axis=1)


def number_files(batches: Iterable[ImageBatch], images_per_file: int) -> Iterator[tuple[int, ImageBatch]]:
    """Share images out to files.

    Args:
        batches: All images.
        images_per_file: Most images of a file.

    Yields:
        Number of a file, from 0 on, and images for it.
    """
    total = 0
    for batch in batches:
        start = 0
        while start < batch.images.num_rows:
            stop = min(batch.images.num_rows, start + images_per_file - total % images_per_file)
            yield total // images_per_file, batch.slice(start, stop)
            total, start = total + stop - start, stop
