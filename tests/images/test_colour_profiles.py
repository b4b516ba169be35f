"""Colours are converted to sRGB by the formulas of their profiles; a broken profile changes nothing."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from cvbatch.images.colour_profiles import convert_to_srgb, may_have_profile
from cvbatch.images.decode import decode
from tests.images import profiles

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(0, 256, (16, 24, 3), dtype=np.uint8)
PHOTO = Image.fromarray(PIXELS)
GAMUTS = {
    "sRGB": (profiles.SRGB, 2.2, (0.3127, 0.3290)),
    "swapped": (profiles.SWAPPED, 2.2, (0.3127, 0.3290)),
    "Display P3": (profiles.DISPLAY_P3, 2.2, (0.3127, 0.3290)),
    "Adobe RGB": (profiles.ADOBE_RGB, 2.19921875, (0.3127, 0.3290)),
    "ProPhoto": (profiles.PROPHOTO, 1.8, (0.3457, 0.3585)),
}
INKS = [(100.0, 0.0, 0.0), (60.0, -30.0, -40.0), (50.0, 60.0, 0.0), (90.0, -5.0, 80.0), (0.0, 0.0, 0.0)]
P3 = profiles.rgb_profile(*GAMUTS["Display P3"])


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_formula(pixels: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
    primaries, gamma, white = GAMUTS[name]
    return profiles.encode_srgb((pixels / 255) ** gamma @ profiles.to_d50(primaries, white).T)


@pytest.mark.parametrize("name", GAMUTS)
def test_rgb_is_converted_by_the_formula(name: str) -> None:
    converted = convert_to_srgb(PHOTO, profiles.rgb_profile(*GAMUTS[name]))
    np.testing.assert_allclose(np.asarray(converted), by_formula(PIXELS, name), atol=2)


def test_grey_is_converted_by_the_formula() -> None:
    ramp = np.arange(256, dtype=np.uint8)[None]
    converted = convert_to_srgb(Image.fromarray(ramp), profiles.grey_profile(1.8))
    linear = (ramp / 255)[..., None] ** 1.8 * np.array([0.9642, 1.0, 0.8249])
    np.testing.assert_allclose(np.asarray(converted), profiles.encode_srgb(linear), atol=2)


def test_inks_are_converted_by_the_formula() -> None:
    inks = np.zeros((1, 5, 4), np.uint8)
    inks[0, 1:] = np.eye(4) * 255
    converted = convert_to_srgb(Image.fromarray(inks, "CMYK"), profiles.cmyk_profile(INKS))
    expected = profiles.encode_srgb(profiles.from_lab(np.array([INKS])))
    np.testing.assert_allclose(np.asarray(converted), expected, atol=3)


def test_lab_is_converted_by_the_formula() -> None:
    lab = np.array([[[255, 0, 0], [153, 226, 216], [128, 60, 0]]], np.uint8)
    image = Image.frombytes("LAB", (3, 1), lab.tobytes())
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    expected = profiles.encode_srgb(profiles.from_lab(np.array([[[100, 0, 0], [60, -30, -40], [50.2, 60, 0]]])))
    np.testing.assert_allclose(np.asarray(convert_to_srgb(image, profile)), expected, atol=3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_transparency_and_palettes_are_preserved(mode: str) -> None:
    profile = profiles.grey_profile(1.8) if mode in ("LA", "1") else P3
    image = PHOTO.convert(mode)
    if mode.endswith("A"):
        image.putalpha(Image.fromarray(PIXELS[..., 0]))
    converted = convert_to_srgb(image, profile)
    assert converted.mode == ("RGBA" if mode.endswith("A") else "RGB")
    plain = image.convert("L" if mode in ("LA", "1") else "RGB")
    np.testing.assert_array_equal(np.asarray(converted.convert("RGB")), np.asarray(convert_to_srgb(plain, profile)))
    if mode.endswith("A"):
        np.testing.assert_array_equal(np.asarray(converted.getchannel("A")), PIXELS[..., 0])


@pytest.mark.parametrize(
    "profile",
    [b"\0" * 200, b"acsp", P3[:150], P3[:132] + b"\xff" * 40, profiles.grey_profile(1.8), P3 + bytes(5 << 20)],
)
def test_an_unusable_profile_changes_nothing(profile: bytes) -> None:
    assert convert_to_srgb(PHOTO, profile) is PHOTO


CONTAINERS = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "JPEG": {"quality": 100, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    "HEIF": {"quality": -1, "chroma": 444},
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_the_profile_of_every_format_is_used(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    flat = Image.new("RGB", (32, 32), (200, 60, 30))
    data = encoded(flat, kind, icc_profile=P3, **CONTAINERS[kind])
    plain, converted = (decode(data, max_pixels=10**6, icc=icc).image.getpixel((9, 9)) for icc in (False, True))
    np.testing.assert_allclose(plain, (200, 60, 30), atol=4)
    np.testing.assert_allclose(converted, by_formula(np.array([[200, 60, 30]]), "Display P3")[0], atol=5)
    assert abs(converted[0] - plain[0]) > 8


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_broken_profile_never_refuses_a_picture(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    data = encoded(PHOTO, kind, icc_profile=P3[:300] + b"garbage" * 9, **CONTAINERS[kind])
    plain, converted = (decode(data, max_pixels=10**6, icc=icc).image for icc in (False, True))
    np.testing.assert_array_equal(np.asarray(plain), np.asarray(converted))


def test_inks_of_a_jpeg_are_not_inverted() -> None:
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    data = encoded(image, "JPEG", quality=100, icc_profile=profiles.cmyk_profile(INKS))
    expected = profiles.encode_srgb(profiles.from_lab(np.array(INKS[1])))
    np.testing.assert_allclose(decode(data, max_pixels=10**6, icc=True).image.getpixel((8, 8)), expected, atol=4)


def test_the_profile_of_a_jp2_is_used() -> None:
    data = encoded(Image.new("RGB", (16, 16), (200, 60, 30)), "JPEG2000")
    start = data.index(b"colr") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    box = (11 + len(P3)).to_bytes(4, "big") + b"colr\x02\0\0" + P3
    head = data.index(b"jp2h") - 4
    grown = int.from_bytes(data[head : head + 4], "big") + len(box) - length
    data = data[:head] + grown.to_bytes(4, "big") + data[head + 4 : start] + box + data[start + length :]
    converted = decode(data, max_pixels=10**6, icc=True).image.getpixel((8, 8))
    np.testing.assert_allclose(converted, by_formula(np.array([[200, 60, 30]]), "Display P3")[0], atol=2)


def test_jpegs_with_a_profile_are_recognised() -> None:
    assert may_have_profile(encoded(PHOTO, "JPEG", icc_profile=P3))
    assert not may_have_profile(encoded(PHOTO, "JPEG"))
