"""Which row of a run belongs to which image of the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cvbatch.truth.base import Bools, Ints

NO_ROW: Final = -1


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Rows of the images of the truth, and the counts of what has no counterpart."""

    row_ids: Ints
    """(images of the truth,): the row of each image that takes part, else `NO_ROW`."""
    row_sizes: npt.NDArray[np.int32]
    """(images of the truth, 2): width and height of each image in pixels, as the run knows them, or 0."""
    matched_by: str
    """What was compared, such as `file name`."""
    without_row: int
    """Images of the truth that no row is about."""
    failed: int
    """Images of the truth whose row has an error, so that there is no answer to judge."""
    not_selected: int
    """Images of the truth whose row the condition leaves out."""
    rows: int
    """Committed rows of images that are still in the source."""
    rows_without_truth: int
    """Rows among them that no image of the truth is about."""
    removed_rows: int
    """Rows whose image was removed from the source; they take no part."""
    example_without_row: str | None = None
    """Name of an image of the truth without a row."""
    example_without_truth: str | None = None
    """Location of an image without truth."""

    @property
    def takes_part(self) -> Bools:
        """(images of the truth,): which take part."""
        return np.not_equal(self.row_ids, NO_ROW)

    def truth_indices(self, row_ids: npt.NDArray[np.int64]) -> Ints:
        """Position in the truth of each of some rows, or -1 where a row takes no part.

        Args:
            row_ids: (n,) row ids.
        """
        rows, images = self._images_by_row
        if not len(rows):
            return np.full(len(row_ids), -1, np.int64)
        positions = np.minimum(np.searchsorted(rows, row_ids), len(rows) - 1)
        return np.where(rows[positions] == row_ids, images[positions], -1)

    def restrict(self, images: Bools) -> Alignment:
        """The alignment of some images of the truth; the counts stay those of all.

        Args:
            images: (images of the truth,)
        """
        return replace(self, row_ids=np.where(images, self.row_ids, NO_ROW))

    def to_json(self) -> dict[str, Any]:
        """The counts as plain data."""
        return {
            "matched_by": self.matched_by,
            "images": int(self.takes_part.sum()),
            "truth_images": len(self.row_ids),
            "truth_without_row": self.without_row,
            "truth_failed": self.failed,
            "truth_not_selected": self.not_selected,
            "rows": self.rows,
            "rows_without_truth": self.rows_without_truth,
            "rows_removed": self.removed_rows,
            "example_without_row": self.example_without_row,
            "example_without_truth": self.example_without_truth,
        }

    @cached_property
    def _images_by_row(self) -> tuple[Ints, Ints]:
        """Rows that take part in ascending order, and the image of each."""
        images = np.flatnonzero(self.takes_part)
        order = np.argsort(self.row_ids[images], kind="stable")
        return self.row_ids[images][order], images[order]
