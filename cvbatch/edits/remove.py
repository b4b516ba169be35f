"""`remove`: objects are filled with what surrounds them, by the inpainting of OpenCV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from cvbatch.edits.base import EditedImage, OriginalImage
from cvbatch.edits.picture import Picture
from cvbatch.edits.regions import Region
from cvbatch.edits.whole_picture import edit_whole_picture
from cvbatch.errors import ImageError
from cvbatch.system.extras import import_extra

_RADIUS: Final = 5.0
"""Pixels around a point that decide its colour."""
_AROUND: Final = 32
"""Pixels around the objects that OpenCV is given."""
_MODES: Final = ("L", "P", "RGB", "RGBA")


def import_opencv() -> Any:
    """OpenCV.

    Raises:
        UsageError: If it is not installed.
    """
    return import_extra("cv2", "opencv", "cvbatch remove")


@dataclass(frozen=True, slots=True)
class Remove:
    """Fill objects by Telea's method (2004), which continues colours from the edge inwards and invents nothing."""

    name: ClassVar[str] = "remove"
    grow: float
    """Share of an object's width and height that is removed around it."""
    keep_metadata: bool = False

    def paths_of(self, image: OriginalImage) -> Sequence[str]:
        """See `Edit`."""
        return [image.path, image.path_as_jpeg]

    def edit_image(self, image: OriginalImage) -> EditedImage:
        """See `Edit`."""
        return edit_whole_picture(image, _fill, action="remove", grow=self.grow, keep_metadata=self.keep_metadata)


def _fill(picture: Picture, regions: Sequence[Region]) -> None:
    """Fill all objects at once, so that none is filled with pixels of another."""
    if picture.image.mode not in _MODES:
        raise ImageError("UnsupportedMode", f"pictures of mode {picture.image.mode} cannot be filled")
    mask = np.zeros(picture.size[::-1], np.bool_)
    for region in regions:
        mask[region.rows, region.columns] |= True if region.inside is None else region.inside
    if not mask.any():
        return
    opencv = import_opencv()
    area = _surroundings(mask)
    if area.inside is None or area.inside.all():
        raise ImageError("NothingAround", "the objects cover the whole picture, so there is nothing to fill them with")
    colours = np.ascontiguousarray(picture.read_rgb(area))
    filled = opencv.inpaint(colours, area.inside.astype(np.uint8), _RADIUS, opencv.INPAINT_TELEA)
    picture.put_rgb(area, filled)


def _surroundings(mask: npt.NDArray[np.bool_]) -> Region:
    """The part of a picture that decides how a mask is filled."""
    rows, columns = (
        slice(max(0, int(hit[0]) - _AROUND), min(length, int(hit[-1]) + 1 + _AROUND))
        for hit, length in (
            (np.flatnonzero(mask.any(axis=1)), mask.shape[0]),
            (np.flatnonzero(mask.any(axis=0)), mask.shape[1]),
        )
    )
    return Region(rows, columns, mask[rows, columns])
