"""What stays of the metadata of a picture."""

from __future__ import annotations

from PIL import ExifTags, Image


def kept_exif(tags: Image.Exif | None, orientation: int) -> bytes | None:
    """The Exif block of an edited picture.

    Args:
        tags: All tags of the original, if they stay; its second directory, the thumbnail, never does.
        orientation: 1 to 8; always stays, since a picture without it looks different.

    Returns:
        A block that begins with `Exif`; None if there is nothing to say.
    """
    tags = tags or Image.Exif()
    if orientation == 1 and not len(tags):
        return None
    tags[ExifTags.Base.Orientation] = orientation
    return tags.tobytes()
