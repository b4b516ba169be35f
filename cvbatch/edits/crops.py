"""`crops`: one file for each object, in a folder of its class, as torchvision's `ImageFolder` reads it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cvbatch.edits.base import EditedImage, EncodedFile, OriginalImage
from cvbatch.edits.object_files import encode_object, object_paths
from cvbatch.images.decode import decode


@dataclass(frozen=True, slots=True)
class Crops:
    """Cut out boxes."""

    name: ClassVar[str] = "crops"
    margin: float
    """Share of a box's width and height that is added on each side."""
    square: bool
    """Whether crops are squares around the middle of their box."""
    extension: str

    def paths_of(self, image: OriginalImage) -> Sequence[str]:
        """See `Edit`."""
        return object_paths(image, self.extension)

    def edit_image(self, image: OriginalImage) -> EditedImage:
        """See `Edit`; an image without objects has no file."""
        files, actions = [], []
        picture = decode(image.data, max_pixels=image.max_pixels).image if image.objects else None
        for path, found in zip(self.paths_of(image), image.objects, strict=True):
            frame = _frame_of(found.box, self.margin, square=self.square)
            inside = _clip(frame, image.size)
            if picture is None or inside is None:
                actions.append("outside")
                continue
            crop = picture.crop(frame if self.square else inside)  # black where the picture ends
            files.append(EncodedFile(path, encode_object(crop, self.extension)))
            actions.append(f"crop {crop.width}x{crop.height}")
        return EditedImage(files, actions)


Frame = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels."""


def _frame_of(box: tuple[float, float, float, float], margin: float, *, square: bool) -> Frame:
    x_min, y_min, x_max, y_max = box
    width, height = (1 + 2 * margin) * (x_max - x_min), (1 + 2 * margin) * (y_max - y_min)
    x_middle, y_middle = (x_min + x_max) / 2, (y_min + y_max) / 2
    if square:
        side = max(1, math.ceil(max(width, height)))
        left, top = round(x_middle - side / 2), round(y_middle - side / 2)
        return left, top, left + side, top + side
    return (
        math.floor(x_middle - width / 2),
        math.floor(y_middle - height / 2),
        math.ceil(x_middle + width / 2),
        math.ceil(y_middle + height / 2),
    )


def _clip(frame: Frame, size: tuple[int, int]) -> Frame | None:
    """The part of a frame that is inside the picture; None if there is none."""
    left, top = max(0, frame[0]), max(0, frame[1])
    right, bottom = min(size[0], frame[2]), min(size[1], frame[3])
    return (left, top, right, bottom) if left < right and top < bottom else None
