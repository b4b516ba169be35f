"""`redact`: objects of some classes are hidden, everything else stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cvbatch.edits.base import EditedImage, EncodedFile, OriginalImage
from cvbatch.edits.hiding import HIDING
from cvbatch.edits.picture import KEPT_FORMATS, open_picture
from cvbatch.edits.regions import region_of
from cvbatch.edits.writing import encode_picture


@dataclass(frozen=True, slots=True)
class Redact:
    """Hide objects."""

    name: ClassVar[str] = "redact"
    how: str
    """A key of `HIDING`."""
    grow: float
    """Share of an object's width and height that is added on each side."""
    keep_metadata: bool = False

    def edit_image(self, image: OriginalImage) -> EditedImage:
        """See `Edit`; a picture without objects is written again, too, because of its metadata."""
        picture, actions = open_picture(image.data, image.size, image.max_pixels), []
        for found in image.objects:
            region = region_of(found, image.size, self.grow)
            if region is not None:
                picture.hide(region, HIDING[self.how])
            actions.append("outside" if region is None else f"{self.how} {'box' if found.mask is None else 'mask'}")
        data, note = encode_picture(picture, keep_metadata=self.keep_metadata)
        path = image.path if picture.format in KEPT_FORMATS else f"{image.path}.jpg"
        return EditedImage([EncodedFile(path, data)], actions, note)
