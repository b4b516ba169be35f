"""Broken metadata (Exif, XMP, profiles, comments, unknown blocks) is never a reason to refuse the picture."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvbatch.images.decode import decode
from tests.images import profiles

PHOTO = Image.fromarray(np.random.default_rng(2).integers(0, 256, (24, 32, 3), dtype=np.uint8))
PROFILE = profiles.rgb_profile(profiles.SWAPPED, 2.2)
EXIF = {
    "garbage": b"Exif\0\0garbage!",
    "no name": b"garbage! garbage! garbage!",
    "no directory": b"Exif\0\0II\x2a\0\xff\xff\xff\x7f",
    "a cut directory": b"Exif\0\0II\x2a\0\x08\0\0\0\x09\0\x12\x01\x03\0\x01",
    "a loop": b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0",
    "a value of 4 GB": b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\xff\xff\xff\x7f\x08\0\0\0\0\0\0\0",
    "one byte": b"Exif\0\0I",
}
OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {},
    "PNG": {},
    "WEBP": {"lossless": True},
    "TIFF": {},
    "AVIF": {},
    "HEIF": {},
}


def saved(kind: str, **beside: Any) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    stream = io.BytesIO()
    PHOTO.save(stream, kind, **OPTIONS.get(kind, {}), **beside)
    return stream.getvalue()


def check(data: bytes, plain: bytes) -> None:
    expected = decode(plain, max_pixels=10**6).image
    for icc in (False, True):
        decoded = decode(data, max_pixels=10**6, exif=True, icc=icc)
        np.testing.assert_array_equal(np.asarray(decoded.image), np.asarray(expected))


@pytest.mark.parametrize("kind", [kind for kind in OPTIONS if kind != "TIFF"])
@pytest.mark.parametrize("name", EXIF)
def test_broken_exif(kind: str, name: str) -> None:
    # the writers of AVIF and HEIC parse the block, and refuse some
    whole = EXIF[name] if kind not in ("AVIF", "HEIF") else b"Exif\0\0II\x2a\0\x08\0\0\0\0\0\0\0\0\0".ljust(50, b"y")
    try:
        data = saved(kind, exif=whole)
    except (SyntaxError, ValueError, RuntimeError):
        pytest.skip("such a file cannot be written")
    check(data.replace(whole[6:], EXIF[name][6:].ljust(len(whole) - 6, b"\0")), saved(kind))


@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize(
    "profile", [b"", b"x", PROFILE[:127], PROFILE[:200], b"\xff" * 5000, PROFILE[:36] + b"\0" * 400]
)
def test_broken_profiles(kind: str, profile: bytes) -> None:
    check(saved(kind, icc_profile=profile), saved(kind))


@pytest.mark.parametrize("kind", [kind for kind in OPTIONS if kind != "TIFF"])
@pytest.mark.parametrize("xmp", [b"x", b"\xff\xfe\0", b"<x:xmpmeta" * 5000])
def test_broken_xmp(kind: str, xmp: bytes) -> None:
    check(saved(kind, xmp=xmp), saved(kind))


def segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content


STEP = -(-len(PROFILE) // 255)
IN_255 = b"".join(
    segment(0xE2, b"ICC_PROFILE\0" + bytes([index + 1, 255]) + PROFILE[index * STEP : (index + 1) * STEP])
    for index in range(255)
)
JPEG_BESIDE = {
    "a profile without its second segment": segment(0xE2, b"ICC_PROFILE\0\x01\x02" + PROFILE[:99]),
    "a profile with a segment twice": segment(0xE2, b"ICC_PROFILE\0\x01\x02" + PROFILE[:99]) * 2,
    "a profile that is numbered from 0": segment(0xE2, b"ICC_PROFILE\0\0\0" + PROFILE[:99]),
    "a profile without a number": segment(0xE2, b"ICC_PROFILE\0"),
    "an empty JFIF block": segment(0xE0, b"JFIF\0"),
    "two blocks of Exif": segment(0xE1, EXIF["garbage"]) + segment(0xE1, EXIF["one byte"]),
    "a broken list of further pictures": segment(0xE2, b"MPF\0II\x2a\0\x08\0\0\0\xff\xff"),
    "a broken Photoshop block": segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\xff\xff\xff\xff"),
    "each application's segment": b"".join(
        segment(marker, b"") + segment(marker, b"x" * 65533) for marker in range(0xE0, 0xEE)
    ),
    "a hundred long comments": segment(0xFE, b"x" * 65533) * 100,
    "ten thousand empty comments": segment(0xFE, b"") * 10_000,
}


@pytest.mark.parametrize("name", JPEG_BESIDE)
def test_segments_of_a_jpeg(name: str) -> None:
    plain = saved("JPEG")
    check(plain[:2] + JPEG_BESIDE[name] + plain[2:], plain)
    check(plain[:20] + JPEG_BESIDE[name] + plain[20:], plain)


def test_a_profile_of_a_jpeg_in_255_segments_is_read() -> None:
    plain = saved("JPEG")
    images = [
        decode(data, max_pixels=10**6, icc=True).image
        for data in (plain[:2] + IN_255 + plain[2:], saved("JPEG", icc_profile=PROFILE), plain)
    ]
    np.testing.assert_array_equal(np.asarray(images[0]), np.asarray(images[1]))
    assert (np.asarray(images[0]) != np.asarray(images[2])).any()


def riff(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


WEBP_BESIDE = {
    "an unknown chunk": riff(b"prVt", b"anything"),
    "an odd length": riff(b"prVt", b"x"),
    "a thousand chunks": riff(b"prVt", b"x") * 1000,
    "3 MB": riff(b"prVt", bytes(3 << 20)),
    "Exif that is not declared": riff(b"EXIF", EXIF["garbage"]),
    "a profile behind the picture": riff(b"ICCP", b"garbage"),
    "XMP twice": riff(b"XMP ", b"x") * 2,
}


@pytest.mark.parametrize("name", WEBP_BESIDE)
def test_chunks_of_a_webp(name: str) -> None:
    plain = saved("WEBP", xmp=b"x")
    data = plain + WEBP_BESIDE[name]
    check(data[:4] + struct.pack("<I", len(data) - 8) + data[8:], plain)


def blocks(content: bytes) -> bytes:
    return b"".join(bytes([len(part)]) + part for part in _cut(content)) + b"\0"


def _cut(content: bytes) -> list[bytes]:
    return [content[start : start + 255] for start in range(0, len(content), 255)]


GIF_BESIDE = {
    "a comment of 3 MB": b"\x21\xfe" + blocks(bytes(3 << 20)),
    "a thousand comments": (b"\x21\xfe" + blocks(b"x")) * 1000,
    "an empty comment": b"\x21\xfe\0",
    "text": b"\x21\x01" + blocks(b"x" * 12),
    "a loop that stops early": b"\x21\xff\x0bNETSCAPE2.0\x01\x01\0",
    "an application without a name": b"\x21\xff\x01x\0",
    "an unknown extension": b"\x21\x77" + blocks(b"x" * 300),
    "a control block that is too long": b"\x21\xf9\x05\0\0\0\0\0\0",
    "XMP without an end": b"\x21\xff\x0bXMP DataXMP" + blocks(b"x" * 300),
}


@pytest.mark.parametrize("name", GIF_BESIDE)
def test_extensions_of_a_gif(name: str) -> None:
    plain = saved("GIF")
    after = 13 + 3 * 2 ** (1 + (plain[10] & 7))
    check(plain[:after] + GIF_BESIDE[name] + plain[after:], plain)
    check(plain[:-1] + GIF_BESIDE[name] + b";", plain)


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


JP2_BESIDE: dict[str, Callable[[], bytes]] = {
    "broken Exif": lambda: box(b"uuid", b"JpgTiffExif->JP2" + EXIF["garbage"]),
    "an empty box": lambda: box(b"uuid", b""),
    "3 MB of XML": lambda: box(b"xml ", bytes(3 << 20)),
    "an unknown box": lambda: box(b"prVt", b"x"),
    "a thousand boxes": lambda: box(b"free", b"x") * 1000,
}


@pytest.mark.parametrize("name", JP2_BESIDE)
def test_boxes_of_a_jp2(name: str) -> None:
    plain = saved("JPEG2000")
    check(plain + JP2_BESIDE[name](), plain)
    head = plain.index(b"jp2h") - 4
    check(plain[:head] + JP2_BESIDE[name]() + plain[head:], plain)


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
@pytest.mark.parametrize("name", [b"free", b"prVt", b"uuid"])
def test_boxes_of_avif_and_heic(kind: str, name: bytes) -> None:
    plain = saved(kind)
    check(plain + box(name, bytes(1 << 20)), plain)
