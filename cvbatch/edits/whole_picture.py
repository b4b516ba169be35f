"""Edits that give back the whole picture, changed where objects are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cvbatch.edits.base import EditedImage, EncodedFile, OriginalImage
from cvbatch.edits.picture import KEPT_FORMATS, Picture, open_picture
from cvbatch.edits.regions import Region, region_of
from cvbatch.edits.unchanged import copy_picture
from cvbatch.edits.writing import encode_picture

Change = Callable[[Picture, Sequence[Region]], None]
"""Edits regions of a picture, in place."""


def edit_whole_picture(
    image: OriginalImage, change: Change, *, action: str, grow: float, keep_metadata: bool
) -> EditedImage:
    """Edit the regions of all objects; a picture without any keeps its pixels as they are coded, where possible.

    Args:
        image: The original.
        change: What is done to the regions.
        action: Its name in the audit.
        grow: Share of an object's width and height that is added on each side.
        keep_metadata: Whether Exif and XMP stay.

    Raises:
        ImageError: The picture cannot be opened, edited or written.
    """
    found_regions = [region_of(found, image.size, grow) for found in image.objects]
    actions = [
        "outside" if region is None else f"{action} {'box' if found.mask is None else 'mask'}"
        for found, region in zip(image.objects, found_regions, strict=True)
    ]
    regions = [region for region in found_regions if region is not None]
    if not regions:
        copied = copy_picture(image.data, image.size, keep_metadata=keep_metadata)
        if copied is not None:
            return EditedImage([EncodedFile(image.path, copied)], actions)
    picture = open_picture(image.data, image.size, image.max_pixels)
    if regions:
        change(picture, regions)
    data, note = encode_picture(picture, keep_metadata=keep_metadata)
    path = image.path if picture.format in KEPT_FORMATS else image.path_as_jpeg
    return EditedImage([EncodedFile(path, data)], actions, note)
