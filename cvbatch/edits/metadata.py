"""What stays of the metadata of a picture: nothing that shows the picture itself, before it was edited."""

from __future__ import annotations

from typing import Final

from PIL import ExifTags, Image

_JPEG_START: Final = b"\xff\xd8\xff"
_PICTURES_IN_BASE64: Final = (b"/9j/", b"iVBORw0KGgo")
"""How JPEG and PNG files begin in base64."""
_PICTURE_NAMESPACES: Final = (b"http://ns.adobe.com/xap/1.0/g/img/", b"http://ns.google.com/photos/1.0/image/")
"""Of thumbnails, and of the originals of portraits."""


def kept_exif(tags: Image.Exif | None, orientation: int) -> bytes | None:
    """The Exif block of an edited picture.

    Args:
        tags: All tags of the original, if they stay; its second directory, the thumbnail, never does, and the maker's
            note does not if it has a preview.
        orientation: 1 to 8; always stays, since a picture without it looks different.

    Returns:
        A block that begins with `Exif`; None if there is nothing to say.
    """
    tags = tags or Image.Exif()
    if orientation == 1 and not len(tags):
        return None
    tags[ExifTags.Base.Orientation] = orientation
    details = tags.get_ifd(ExifTags.IFD.Exif)
    note = details.get(ExifTags.Base.MakerNote)
    if isinstance(note, bytes) and _JPEG_START in note:
        del details[ExifTags.Base.MakerNote]
    return tags.tobytes()


def kept_xmp(packet: bytes | None) -> bytes | None:
    """The XMP packet of an edited picture that keeps its metadata.

    Args:
        packet: Of the original.

    Returns:
        None if there is none, or if it holds a picture: in `xmp:Thumbnails`, or as what a camera has made it from.
    """
    signs = (*_PICTURES_IN_BASE64, *_PICTURE_NAMESPACES)
    return None if packet is None or any(sign in packet for sign in signs) else packet
