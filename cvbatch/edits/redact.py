"""`redact`: objects of some classes are hidden, everything else stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from cvbatch.edits.base import EditedImage, OriginalImage
from cvbatch.edits.hiding import HIDING
from cvbatch.edits.picture import Picture
from cvbatch.edits.regions import Region
from cvbatch.edits.whole_picture import edit_whole_picture


@dataclass(frozen=True, slots=True)
class Redact:
    """Hide objects."""

    name: ClassVar[str] = "redact"
    how: str
    """A key of `HIDING`."""
    grow: float
    """Share of an object's width and height that is added on each side."""
    keep_metadata: bool = False

    def paths_of(self, image: OriginalImage) -> Sequence[str]:
        """See `Edit`."""
        return [image.path, image.path_as_jpeg]

    def edit_image(self, image: OriginalImage) -> EditedImage:
        """See `Edit`; a picture without objects is written again, too, because of its metadata."""
        return edit_whole_picture(image, self._hide, action=self.how, grow=self.grow, keep_metadata=self.keep_metadata)

    def _hide(self, picture: Picture, regions: Sequence[Region]) -> None:
        for region in regions:
            picture.hide(region, HIDING[self.how])
