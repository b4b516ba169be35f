"""One rule for all formats: orientation comes from Exif, or else XMP; in HEIC and AVIF only from their boxes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin, TiffImagePlugin

from cvbatch.images.decode import decode
from cvbatch.images.exif import read_orientation
from cvbatch.images.jpeg_header import read_baseline_header

WIDTH, HEIGHT = 48, 32
PHOTO = Image.fromarray(
    np.kron(
        np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8), np.ones((16, 24, 1))
    ).astype(np.uint8)
)
CORNERS = {1: "rgbw", 6: "brwg", 8: "gwrb", 3: "wbgr"}
"""Colours of the corners, row by row, by orientation in Exif."""
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:%(p)b="http://ns.adobe.com/tiff/1.0/"%(a)b>%(e)b</rdf:Description></rdf:RDF>'
    b"</x:xmpmeta>"
)
AS_ATTRIBUTE = XMP % {b"p": b"tiff", b"a": b' tiff:Orientation="6"', b"e": b""}
AS_ELEMENT = XMP % {b"p": b"t1", b"a": b"", b"e": b"<t1:Orientation>6</t1:Orientation>"}
SPACED = XMP % {b"p": b"tiff", b"a": b" tiff:Orientation = '6'", b"e": b""}
UTF16 = AS_ATTRIBUTE.decode().encode("utf-16")
OTHER = XMP % {b"p": b"tiff", b"a": b' tiff:Orientation="0" other:Orientation="6"', b"e": b""}


def block(turn: int) -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = turn
    return tags.tobytes()


def saved(kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    PHOTO.save(stream, kind, **options)
    return stream.getvalue()


def plain(kind: str, **options: Any) -> Callable[[bytes | None, bytes | None], bytes]:
    def make(exif: bytes | None, xmp: bytes | None) -> bytes:
        beside = {"exif": exif, "xmp": xmp}
        return saved(kind, **options, **{name: data for name, data in beside.items() if data is not None})

    return make


def png(exif: bytes | None, xmp: bytes | None) -> bytes:
    info = PngImagePlugin.PngInfo()
    if xmp is not None:
        info.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
    return saved("PNG", pnginfo=info, **({} if exif is None else {"exif": exif}))


def tiff(exif: bytes | None, xmp: bytes | None) -> bytes:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    if xmp is not None:
        tags[700] = xmp
    if exif is not None:
        block = Image.Exif()
        block.load(exif)
        tags[ExifTags.Base.Orientation] = block[ExifTags.Base.Orientation]
    return saved("TIFF", tiffinfo=tags)


def gif(exif: bytes | None, xmp: bytes | None) -> bytes:
    data = saved("GIF")
    after = 13 + 3 * 2 ** (1 + (data[10] & 7))
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
    extension = b"" if xmp is None else b"\x21\xff\x0bXMP DataXMP" + xmp + trailer
    return data[:after] + extension + data[after:]


def jp2(exif: bytes | None, xmp: bytes | None) -> bytes:
    data = saved("JPEG2000")
    for name, content in ((b"JpgTiffExif->JP2", exif), (bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), xmp)):
        if content is not None:
            data += struct.pack(">I", 24 + len(content)) + b"uuid" + name + content
    return data


FORMATS = {
    "jpeg": plain("JPEG", quality=95),
    "png": png,
    "webp": plain("WEBP", lossless=True),
    "tiff": tiff,
    "jpeg2000": jp2,
    "gif": gif,
}


def seen(data: bytes) -> str:
    """Colours of the corners, row by row."""
    result = decode(data, max_pixels=10**6)
    assert result.image.size == (result.width, result.height)
    pixels = np.asarray(result.image) > 127
    corners = [pixels[y, x] for y in (4, -5) for x in (4, -5)]
    return "".join({(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 1): "w"}[tuple(c.tolist())] for c in corners)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("exif", "xmp", "turn"),
    [(None, AS_ATTRIBUTE, 6), (1, AS_ATTRIBUTE, 1), (8, AS_ATTRIBUTE, 8), (None, AS_ELEMENT, 6), (3, None, 3)],
    ids=["XMP", "Exif says 1", "Exif says 8", "XMP under another name", "Exif alone"],
)
def test_exif_before_xmp(kind: str, exif: int | None, xmp: bytes | None, turn: int) -> None:
    if kind == "gif" and exif is not None:
        pytest.skip("a GIF has no Exif")
    data = FORMATS[kind](None if exif is None else block(exif), xmp)
    assert seen(data) == CORNERS[turn]


@pytest.mark.parametrize(("exif", "xmp", "turn"), [(None, AS_ELEMENT, 6), (1, AS_ELEMENT, 1), (8, AS_ATTRIBUTE, 8)])
def test_the_header_has_the_same_orientation(exif: int | None, xmp: bytes, turn: int) -> None:
    header = read_baseline_header(FORMATS["jpeg"](None if exif is None else block(exif), xmp), max_pixels=10**6)
    assert header is not None
    assert header.orientation == turn


@pytest.mark.parametrize("kind", FORMATS)
def test_xmp_is_used_if_exif_is_broken(kind: str) -> None:
    if kind in ("gif", "tiff"):
        pytest.skip("it has no such block")
    assert seen(FORMATS[kind](b"Exif\0\0garbage that is no TIFF", AS_ATTRIBUTE)) == CORNERS[6]


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_only_boxes_rotate_avif_and_heic(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    # their writers convert an orientation to a box
    upright, rotated = (b'tiff:Orientation="%d"' % turn for turn in (1, 6))
    without_box = saved(kind, xmp=AS_ATTRIBUTE.replace(rotated, upright))
    assert upright in without_box
    assert seen(without_box.replace(upright, rotated)) == CORNERS[1]
    assert seen(saved(kind, exif=block(6))) == CORNERS[6]
    assert seen(saved(kind, exif=block(6), xmp=AS_ATTRIBUTE)) == CORNERS[6]


@pytest.mark.parametrize("packet", [AS_ATTRIBUTE, AS_ELEMENT, SPACED, UTF16, AS_ATTRIBUTE.decode()])
def test_a_packet_is_read(packet: object) -> None:
    assert read_orientation(None, packet) == 6


@pytest.mark.parametrize("packet", [None, b"", OTHER, b"\0" * 99, zlib.compress(AS_ATTRIBUTE), {"xmpmeta": 6}, "é"])
def test_a_packet_without_orientation(packet: object) -> None:
    assert read_orientation(None, packet) == 1
