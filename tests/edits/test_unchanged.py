"""A picture in which nothing is hidden keeps its coded pixels, and loses its metadata all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from cvbatch.edits.base import EditedImage, FoundObject, OriginalImage
from cvbatch.edits.redact import Redact
from cvbatch.edits.remove import Remove
from cvbatch.edits.unchanged import copy_picture
from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from tests.edits.test_picture import MAX_PIXELS, SIZE, frames, noise, opened, photo_with_metadata, saved
from tests.images.pngs import png

OUTSIDE = FoundObject("person", 0.9, (100.0, 100.0, 120.0, 120.0))


def untouched(data: bytes, edit: Any = None, *, size: tuple[int, int] = SIZE, **options: Any) -> EditedImage:
    edit = edit or Redact("fill", 0.0, **options)
    edited: EditedImage = edit.edit_image(OriginalImage("a/b.x", data, size, MAX_PIXELS, [OUTSIDE]))
    return edited


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_pixels_stay_as_they_are_coded(kind: str) -> None:
    data = photo_with_metadata(kind)
    for edit in (Redact("blur", 0.0), Remove(0.0)):
        edited = untouched(data, edit)
        (file,) = edited.files
        assert (file.path, edited.actions, edited.note) == ("a/b.x", ["outside"], None)
        assert file.data == copy_picture(data, SIZE, keep_metadata=False)
        assert (np.asarray(opened(file.data)) == np.asarray(opened(data))).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_metadata_is_removed_and_the_profile_stays(kind: str) -> None:
    data = photo_with_metadata(kind)
    edited = untouched(data).files[0].data
    assert b"secret" not in edited
    assert not opened(edited).getexif()
    assert opened(edited).info["icc_profile"] == opened(data).info["icc_profile"]
    kept = untouched(data, keep_metadata=True).files[0].data
    tags = opened(kept).getexif()
    assert tags[ExifTags.Base.Make] == "Maker"
    assert tags.get_ifd(ExifTags.IFD.GPSInfo)
    assert b"<secret/>" in kept
    assert not tags.get_ifd(ExifTags.IFD.IFD1), "the thumbnail"
    assert b"secret comment" not in kept


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_orientation_stays(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = saved(noise("RGB"), kind, exif=exif.tobytes())
    before = decode(data, max_pixels=MAX_PIXELS)
    after = decode(untouched(data, size=(before.width, before.height)).files[0].data, max_pixels=MAX_PIXELS)
    assert (np.asarray(after.image) == np.asarray(before.image)).all()


def test_deep_colours_are_copied() -> None:
    """Sixteen bits per channel cannot be edited without a loss, and need not be decoded for this."""
    data = png(np.random.default_rng(0).integers(0, 65536, (SIZE[1], SIZE[0], 3)), bits=16, colour=2)
    assert untouched(data).files[0].data == data


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "BMP", "GIF"])
def test_other_formats_are_written_again(kind: str) -> None:
    data = saved(noise("P" if kind == "GIF" else "RGB"), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert copy_picture(data, SIZE, keep_metadata=False) is None
    after = opened(untouched(data).files[0].data)
    assert (np.asarray(after.convert("RGB")) == np.asarray(opened(data).convert("RGB"))).all()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (frames("PNG"), "MultipleFrames"),
        (saved(noise("RGB").resize((9, 9)), "PNG"), "OtherSize"),
        (saved(noise("RGB").resize((9, 9)), "JPEG"), "OtherSize"),
    ],
)
def test_what_cannot_be_copied_is_an_error_as_ever(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        untouched(data)
    assert caught.value.kind == kind
