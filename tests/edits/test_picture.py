"""Pictures are edited as they are stored: formats, modes, palettes, depths, profiles and all eight orientations."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from cvbatch.edits.base import EditedImage, FoundObject, OriginalImage
from cvbatch.edits.redact import Redact
from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from cvbatch.tasks.masks import encode_mask

SIZE = (24, 16)
BOX = (4.0, 2.0, 12.0, 9.0)
MAX_PIXELS = 10**6


def noise(mode: str) -> Image.Image:
    """A picture of random pixels."""
    draw = np.random.default_rng(3)
    if mode == "P":
        image = Image.frombytes("P", SIZE, draw.integers(0, 200, SIZE[0] * SIZE[1], np.uint8).tobytes())
        image.putpalette(draw.integers(0, 256, 600, np.uint8).tobytes())
        return image
    if mode == "1":
        return Image.fromarray(draw.integers(0, 2, SIZE[::-1]).astype(np.bool_))
    if mode == "I;16":
        return Image.fromarray(draw.integers(1, 65536, SIZE[::-1]).astype(np.uint16))
    if mode == "F":
        return Image.fromarray(draw.random(SIZE[::-1]).astype(np.float32) + 1)
    channels = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, SIZE, draw.integers(1, 255, SIZE[0] * SIZE[1] * channels, np.uint8).tobytes())


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def redacted(
    data: bytes, how: str = "fill", size: tuple[int, int] = SIZE, mask: Any = None, **options: Any
) -> EditedImage:
    found = [FoundObject("person", 0.9, BOX, mask)]
    return Redact(how, options.pop("grow", 0.0), **options).edit_image(
        OriginalImage("a/b.x", data, size, MAX_PIXELS, found)
    )


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("how", ["fill", "blur", "pixelate"])
@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        *(("TIFF", mode) for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F")),
        *(("BMP", mode) for mode in ("1", "L", "P", "RGB")),
        *(("WEBP", mode) for mode in ("RGB", "RGBA")),
        ("GIF", "P"),
    ],
)
def test_pixels_outside_stay_what_they_are(kind: str, mode: str, how: str) -> None:
    data = saved(noise(mode), kind, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    before, after = opened(data), opened(redacted(data, how).files[0].data)
    assert (after.format, after.mode, after.size) == (before.format, before.mode, before.size)
    if kind == "GIF":
        before, after = before.convert("RGB"), after.convert("RGB")
    changed = np.asarray(before) != np.asarray(after)
    changed = changed if changed.ndim == 2 else changed.any(axis=2)
    inside = np.zeros_like(changed)
    inside[2:9, 4:12] = True
    assert not changed[~inside].any()
    assert changed[inside].mean() > (0.3 if mode == "1" else 0.9)
    if mode == "P" and kind != "GIF":
        assert after.getpalette() == before.getpalette()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})]
)
def test_boxes_are_of_the_upright_picture(kind: str, options: dict[str, Any], orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    stored = Image.fromarray(np.full((48, 64, 3), 200, np.uint8))
    data = saved(stored, kind, exif=exif.tobytes(), **options)
    before = decode(data, max_pixels=MAX_PIXELS)
    after = decode(redacted(data, size=(before.width, before.height)).files[0].data, max_pixels=MAX_PIXELS)
    assert (after.width, after.height) == (before.width, before.height)
    is_dark = np.asarray(after.image.convert("L")) < 100
    expected = np.zeros_like(is_dark)
    expected[2:9, 4:12] = True
    assert (is_dark == expected).all() if kind != "JPEG" else (is_dark[3:8, 5:11].all() and is_dark.sum() < 100)


def test_an_orientation_that_only_xmp_has_is_followed() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    data = saved(Image.fromarray(np.full((48, 64, 3), 200, np.uint8)), "JPEG", xmp=xmp, quality=95)
    before = decode(data, max_pixels=MAX_PIXELS)
    assert (before.width, before.height) == (48, 64)
    after = decode(redacted(data, size=(48, 64)).files[0].data, max_pixels=MAX_PIXELS)
    assert (after.width, after.height) == (48, 64)
    assert (np.asarray(after.image)[3:8, 5:11] < 100).all()


@pytest.mark.parametrize(
    ("mode", "subsampling", "quality"), [("RGB", "4:2:0", 61), ("RGB", "4:4:4", 93), ("L", None, 70)]
)
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_keeps_its_quality(mode: str, subsampling: str | None, quality: int, progressive: bool) -> None:
    options = {} if subsampling is None else {"subsampling": subsampling}
    data = saved(noise(mode), "JPEG", quality=quality, progressive=progressive, **options)
    before, after = opened(data), opened(redacted(data).files[0].data)
    assert before.quantization == after.quantization  # type: ignore[attr-defined]
    assert before.layer == after.layer  # type: ignore[attr-defined]
    assert bool(after.info.get("progressive")) is progressive


def photo_with_metadata(kind: str) -> bytes:
    """A photo with position, maker's note, a thumbnail and XMP."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"secret note"
    thumbnail = exif.get_ifd(ExifTags.IFD.IFD1)
    thumbnail[ExifTags.Base.Compression] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    more: dict[str, Any] = {"comment": b"secret comment"} if kind == "JPEG" else {}
    if kind == "PNG":
        packet = PngImagePlugin.PngInfo()
        packet.add_itxt("XML:com.adobe.xmp", "<secret/>")
        more["pnginfo"] = packet
    return saved(noise("RGB"), kind, exif=exif.tobytes(), xmp=b"<secret/>", icc_profile=profile, **more)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_removed_and_the_profile_stays(kind: str) -> None:
    data = photo_with_metadata(kind)
    assert b"secret" in data
    edited = redacted(data).files[0].data
    assert b"secret" not in edited
    image = opened(edited)
    assert not image.getexif()
    assert image.info["icc_profile"] == opened(data).info["icc_profile"]
    kept = redacted(data, keep_metadata=True).files[0].data
    assert opened(kept).getexif()[ExifTags.Base.Make] == "Maker"
    assert opened(kept).getexif().get_ifd(ExifTags.IFD.GPSInfo)
    assert b"<secret/>" in kept


def test_what_comes_behind_the_picture_is_removed() -> None:
    """Multi-picture files (MPO) hold a preview behind the picture."""
    data = saved(noise("RGB"), "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64), "red")])
    edited = opened(redacted(data).files[0].data)
    assert (edited.format, getattr(edited, "n_frames", 1), "mp" in edited.info) == ("JPEG", 1, False)


def test_a_mask_is_used_and_grown() -> None:
    mask = np.zeros(SIZE[::-1], np.bool_)
    mask[6:10, 8:18] = True
    data = saved(noise("RGB"), "PNG")
    for grow, rows, columns in ((0.0, slice(6, 10), slice(8, 18)), (0.25, slice(5, 11), slice(5, 21))):
        after = np.asarray(opened(redacted(data, mask=mask, grow=grow).files[0].data))
        expected = np.zeros(SIZE[::-1], np.bool_)
        expected[rows, columns] = True
        assert ((after == 0).all(axis=2) == expected).all()
    assert encode_mask(mask)


def frames(kind: str) -> bytes:
    return saved(noise("RGB"), kind, save_all=True, append_images=[Image.new("RGB", SIZE, "red")])


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (frames("GIF"), "MultipleFrames"),
        (frames("PNG"), "MultipleFrames"),
        (frames("WEBP"), "MultipleFrames"),
        (frames("TIFF"), "MultipleFrames"),
        (saved(noise("RGB").resize((9, 9)), "PNG"), "OtherSize"),
        (saved(Image.new("LAB", SIZE), "TIFF"), "UnsupportedMode"),
    ],
)
def test_what_cannot_be_edited_is_an_error(data: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as caught:
        redacted(data)
    assert caught.value.kind == kind


def test_a_mask_of_another_size_is_an_error() -> None:
    with pytest.raises(ImageError, match="16 × 24"):
        redacted(saved(noise("RGB"), "PNG"), mask=np.ones((4, 4), np.bool_))


def test_a_format_that_is_not_written_becomes_jpeg() -> None:
    data = saved(noise("RGB"), "AVIF")
    edited = redacted(data)
    assert (edited.files[0].path, edited.note) == ("a/b.x.jpg", "avif is written as JPEG")
    assert opened(edited.files[0].data).format == "JPEG"


def test_a_blur_leaves_little_of_a_region_of_any_size() -> None:
    """However large a region is, only a few means remain; so two pictures with the same means look the same."""
    draw = np.random.default_rng(0)
    for side in (8, 50, 600):
        values = []
        for _ in range(2):
            cells = np.full((side, side, 3), 128, np.int16)
            swing = draw.integers(-60, 60, (side // 2, side, 3))
            cells[: side // 2 * 2 : 2], cells[1 : side // 2 * 2 : 2] = 128 + swing, 128 - swing
            found = [FoundObject("person", 1.0, (0, 0, side, side))]
            image = OriginalImage(
                "x.png", saved(Image.fromarray(cells.astype(np.uint8)), "PNG"), (side, side), MAX_PIXELS, found
            )
            edited = Redact("blur", 0.0).edit_image(image)
            values.append(np.asarray(opened(edited.files[0].data)).astype(int))
        assert np.abs(values[0] - values[1]).max() <= 40
        assert len(np.unique(np.diff(values[0][:, 0, 0]))) < 60
