"""`cutout`: one file for each object, with its mask as the alpha channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from PIL import Image

from cvbatch.edits.base import EditedImage, EncodedFile, OriginalImage
from cvbatch.edits.object_files import encode_object, object_paths
from cvbatch.edits.regions import region_of
from cvbatch.images.decode import decode


@dataclass(frozen=True, slots=True)
class Cutout:
    """Cut out masks."""

    name: ClassVar[str] = "cutout"
    grow: float
    """Share of an object's width and height by which its mask is widened."""
    extension: str

    def paths_of(self, image: OriginalImage) -> Sequence[str]:
        """See `Edit`."""
        return object_paths(image, self.extension)

    def edit_image(self, image: OriginalImage) -> EditedImage:
        """See `Edit`; what is outside of a mask is black and transparent, so nothing of it remains."""
        files, actions = [], []
        picture = np.asarray(decode(image.data, max_pixels=image.max_pixels).image) if image.objects else None
        for path, found in zip(self.paths_of(image), image.objects, strict=True):
            region = region_of(found, image.size, self.grow)
            if picture is None or region is None:
                actions.append("outside")
                continue
            colours = picture[region.rows, region.columns]
            inside = np.ones(colours.shape[:2], np.bool_) if region.inside is None else region.inside
            pixels = np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)]) * inside[..., None]
            files.append(EncodedFile(path, encode_object(Image.fromarray(pixels), self.extension)))
            actions.append(f"cutout {'box' if found.mask is None else 'mask'}")
        return EditedImage(files, actions)
