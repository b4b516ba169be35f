"""Where the pixels, boxes and label maps of an image come to lie in the view of a network, changed at random or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from cvbatch.config.train_job import AugmentConfig
from cvbatch.images.decode import DecodedImage
from cvbatch.images.preprocess import CropGeometry, Size, View, apply_view, compute_crop_geometry
from cvbatch.training.changes import DrawnChange, draw_change
from cvbatch.training.torch.base import ImagePlace
from cvbatch.truth.base import IGNORED

INTERPOLATIONS: Final = {
    "nearest": functional.InterpolationMode.NEAREST,
    "bilinear": functional.InterpolationMode.BILINEAR,
    "bicubic": functional.InterpolationMode.BICUBIC,
    "linear": functional.InterpolationMode.BILINEAR,
}
"""Of a view."""
_LEAST_VISIBLE: Final = 0.25
"""Share of a box that a crop must keep, so that what it shows can still be told."""
_LEAST_PIXELS: Final = 1.0
"""Length of a side of a box in the view."""
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMove:
    """The way from the oriented original to the view."""

    original: Size
    canvas: Size
    """Size to which the original is scaled before anything else."""
    region: tuple[int, int, int, int]
    """Left, top, width and height of what is kept of the canvas."""
    flip: bool
    geometry: CropGeometry
    """Of the region in the view."""

    def boxes(self, boxes: npt.NDArray[np.float32]) -> tuple[Tensor, Tensor]:
        """Move boxes.

        Args:
            boxes: (n, 4): corners in pixels of the original.

        Returns:
            The corners of those that are still visible, in pixels of the view, and the positions of these boxes.
        """
        width, height = self.original
        corners = torch.from_numpy(np.asarray(boxes, np.float32).reshape(-1, 4))
        moved = self._apply(tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(height, width)))
        inside = functional.clamp_bounding_boxes(moved).as_subclass(Tensor)
        factor = self.canvas[0] * self.geometry.resized_size[0] / (width * self.region[2])
        factor *= self.canvas[1] * self.geometry.resized_size[1] / (height * self.region[3])
        sides = inside[:, 2:] - inside[:, :2]
        whole = (corners[:, 2:] - corners[:, :2]).prod(dim=1) * factor
        is_visible = (sides >= _LEAST_PIXELS).all(dim=1) & (sides.prod(dim=1) >= _LEAST_VISIBLE * whole)
        kept = is_visible.nonzero()[:, 0]
        return inside[kept], kept

    def label_map(self, labels: npt.NDArray[np.int64]) -> Tensor:
        """Move a label map, with the pixels that are nearest to the centres of the new ones.

        Args:
            labels: (height, width) of the original; at most 254 classes.

        Returns:
            (height, width) of the view, int64; `IGNORED` where there is no image.
        """
        shifted = torch.from_numpy(labels - IGNORED).to(torch.uint8)  # zero, which fills up, is then `IGNORED`
        moved: Tensor = self._apply(shifted[None])
        return moved[0].long() + IGNORED

    def _apply(
        self, value: Any, mode: functional.InterpolationMode = functional.InterpolationMode.NEAREST_EXACT
    ) -> Any:
        """Move an image, a plain tensor or boxes."""
        if self.canvas != self.original:
            value = functional.resize(value, [self.canvas[1], self.canvas[0]], interpolation=mode)
        return self.from_canvas(value, mode)

    def from_canvas(self, value: Any, mode: functional.InterpolationMode) -> Any:
        """Move something that has the size of the canvas already."""
        left, top, width, height = self.region
        resized = [self.geometry.resized_size[1], self.geometry.resized_size[0]]
        value = functional.resized_crop(value, top, left, height, width, resized, interpolation=mode)
        if self.flip:
            value = functional.horizontal_flip(value)
        if self.geometry.offset == (0, 0) and self.geometry.size == self.geometry.resized_size:
            return value
        (across, down), (width, height) = self.geometry.offset, self.geometry.size
        return functional.crop(value, down, across, height, width)


@dataclass(frozen=True, slots=True)
class MovedImage:
    """An image as a network sees it."""

    pixels: Pixels
    """(height, width, 3) of the view."""
    move: ImageMove


def move_image(decoded: DecodedImage, view: View, place: ImagePlace) -> MovedImage:
    """Make the view of an image, with the changes of its epoch.

    Args:
        decoded: The image; perhaps smaller than the original.
        view: What the network sees.
        place: Without changes, the pixels are those of a run.
    """
    image, original = decoded.image, (decoded.width, decoded.height)
    if place.changes is None:
        geometry = compute_crop_geometry(view, original)
        move = ImageMove(original=original, canvas=original, region=(0, 0, *original), flip=False, geometry=geometry)
        return MovedImage(apply_view(view, image, original), move)
    change = draw_change(place.changes, image.size, place.seed, place.epoch, place.image)
    move = ImageMove(
        original=original,
        canvas=image.size,
        region=(change.left, change.top, change.width, change.height),
        flip=change.flip,
        geometry=compute_crop_geometry(view, (change.width, change.height)),
    )
    moved = move.from_canvas(image, INTERPOLATIONS[view.interpolation])
    return MovedImage(np.array(change_colours(moved, place.changes, change)), move)


def change_colours(image: Image.Image, allowed: AugmentConfig, change: DrawnChange) -> Image.Image:
    """Change brightness, contrast and saturation.

    Args:
        image: RGB.
        allowed: Whether colours change at all.
        change: What was drawn.
    """
    if not allowed.colour:
        return image
    image = functional.adjust_brightness(image, change.brightness)
    image = functional.adjust_contrast(image, change.contrast)
    changed: Image.Image = functional.adjust_saturation(image, change.saturation)
    return changed
