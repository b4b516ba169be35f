"""Compose the frames of animated files, each as a PNG of its own."""

from __future__ import annotations

import io
from typing import Final

from PIL import ExifTags, Image

from cvbatch.errors import ImageError
from cvbatch.images.exif import load_exif_tags, read_orientation
from cvbatch.images.formats import MALFORMED_ERRORS, identify_format
from cvbatch.images.pillow_guards import quiet_pillow
from cvbatch.images.pillow_reader import read_image_xmp
from cvbatch.images.plain_png import encode_plain_png

_MAX_PIXELS: Final = 178_000_000
"""Of one frame: what Pillow composes at most."""


class FrameSequence:
    """The frames of one file as they are shown: what earlier frames have left is below.

    Args:
        data: The whole file.

    Raises:
        ImageError: `UnknownFormat`, `MissingExtra`, `TooManyPixels` or `CorruptImage`.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._format = identify_format(data)
        try:
            with quiet_pillow:
                self._image = self._format.open(io.BytesIO(data))
        except Image.DecompressionBombError:
            raise _too_many_pixels_error() from None
        except MALFORMED_ERRORS as error:
            raise self._to_image_error(error) from error

    def encode_frame(self, number: int) -> bytes:
        """Return a frame as a PNG of the same pixels, with its colour profile, and Exif values such as its orientation.

        It is not compressed: most frames are decoded at once and never stored.

        Args:
            number: From 1 on; frames in order cost least, since each is composed from the one before.

        Raises:
            ImageError: `NoSuchPage`, `TooManyPixels`, `TruncatedImage` or `CorruptImage`.
        """
        try:
            with quiet_pillow:
                return self._encode_current(number)
        except Image.DecompressionBombError:
            raise _too_many_pixels_error() from None
        except EOFError:
            raise ImageError("NoSuchPage", f"the file has no frame {number} (any more)") from None
        except MALFORMED_ERRORS as error:
            raise self._to_image_error(error) from error

    def _encode_current(self, number: int) -> bytes:
        image = self._image
        image.seek(number - 1)
        if image.width * image.height > _MAX_PIXELS:
            raise _too_many_pixels_error()
        image.load()
        tags = load_exif_tags(image) or Image.Exif()
        orientation = read_orientation(tags, read_image_xmp(self._format, self._data, image))
        if orientation != 1:
            tags[ExifTags.Base.Orientation] = orientation
        return encode_plain_png(image, tags.tobytes() if len(tags) else b"")

    def _to_image_error(self, error: Exception) -> ImageError:
        is_cut = self._format.is_truncated(self._data, 0) or "truncated" in str(error).lower()
        kind, what = ("TruncatedImage", "stops early") if is_cut else ("CorruptImage", "cannot be decoded")
        return ImageError(kind, f"{self._format.name} {what}: {error or type(error).__name__}")


def _too_many_pixels_error() -> ImageError:
    return ImageError("TooManyPixels", f"the frames have more than {_MAX_PIXELS} pixels")
