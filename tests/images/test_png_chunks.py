"""Chunks beside the pixels of a PNG never make it an error, and are unpacked only if they are needed."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from cvbatch.images.png_chunks import read_png_chunks
from tests.images.pngs import SIGNATURE, chunk, png

PIXELS = np.random.default_rng(5).integers(0, 256, (9, 7, 3))
HUGE = zlib.compress(bytes(50 << 20), 9)
EXIF = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
"""An Exif block with orientation 6."""
XMP = b'<a xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
BESIDE = {
    "a profile that unpacks to 50 MB": chunk(b"iCCP", b"name\0\0" + HUGE),
    "a profile that does not unpack": chunk(b"iCCP", b"name\0\0garbage"),
    "a profile packed in another way": chunk(b"iCCP", b"name\0\7garbage"),
    "a profile without a name's end": chunk(b"iCCP", b"name"),
    "an empty profile": chunk(b"iCCP", b""),
    "packed text that unpacks to 50 MB": chunk(b"zTXt", b"Comment\0\0" + HUGE),
    "packed international text of 50 MB": chunk(b"iTXt", b"Comment\0\1\0\0\0" + HUGE),
    "XMP that unpacks to 50 MB": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + HUGE),
    "XMP that does not unpack": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0garbage"),
    "XMP that stops early": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1"),
    "long text": chunk(b"tEXt", b"Comment\0" + b"x" * (3 << 20)),
    "text in no alphabet": chunk(b"iTXt", b"\xff\xfe\0\0\0\0\0\xff\xff"),
    "much text": chunk(b"tEXt", b"Comment\0" + b"x" * 70_000) * 40,
    "Exif in hexadecimal that is none": chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 9\nxyz")
    ),
    "Exif in hexadecimal of 50 MB": chunk(b"zTXt", b"Raw profile type exif\0\0" + HUGE),
    "broken Exif": chunk(b"eXIf", b"garbage"),
    "no Exif": chunk(b"eXIf", b""),
    "resolution that stops early": chunk(b"pHYs", b"\0"),
    "primaries that stop early": chunk(b"cHRM", b"\0"),
    "gamma that stops early": chunk(b"gAMA", b""),
    "an unknown chunk": chunk(b"prVt", b"anything"),
    "an animation that stops early": chunk(b"acTL", b"\0") + chunk(b"fcTL", b"\0") + chunk(b"fdAT", b""),
    "ten thousand chunks": chunk(b"prVt", b"") * 10_000,
    "a name with its third letter small": chunk(b"teXt", b"x"),
}


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("icc", [False, True])
def test_chunks_beside_the_pixels_are_never_an_error(name: str, where: str, icc: bool) -> None:
    data = png(PIXELS, 8, 2, **{where: [BESIDE[name]]})
    tracemalloc.start()
    image = decode(data, max_pixels=1000, icc=icc).image
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(np.asarray(image), PIXELS)
    assert peak < 10 << 20, "what unpacks to 50 MB is not unpacked"


@pytest.mark.parametrize("name", [b"pHYs", b"tRNS", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"tIME", b"prVt"])
def test_an_ancillary_chunk_with_a_wrong_checksum_is_ignored(name: bytes) -> None:
    content = struct.pack(">3H", *PIXELS[0, 0].tolist()) if name == b"tRNS" else EXIF
    image = decode(png(PIXELS, 8, 2, before=[chunk(name, content, checksum=7)]), max_pixels=1000).image
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize("name", [b"IHDR", b"PLTE", b"IDAT", b"IEND"])
def test_a_wrong_checksum_of_a_critical_chunk_is_an_error(name: bytes) -> None:
    data = bytearray(png(PIXELS[..., :1] & 1, 8, 3, before=[chunk(b"PLTE", bytes(6))]))
    offset = data.index(name)
    data[offset + 4 + int.from_bytes(data[offset - 4 : offset], "big")] ^= 255
    assert refused(bytes(data)) == "CorruptImage"


def refused(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels=1000)
    return caught.value.kind


def test_a_broken_sequence_of_chunks_is_an_error() -> None:
    whole = png(PIXELS, 8, 2)
    header, body = whole[:33], whole[33:]
    assert refused(header + chunk(b"NEED", b"") + body) == "CorruptImage"
    assert refused(header + b"\0\0\0\0\1\2\3\4\0\0\0\0" + body) == "CorruptImage"
    assert refused(header + b"\x7f\xff\xff\xfftEXt" + body) == "CorruptImage"
    assert refused(header + body[-12:]) == "CorruptImage"
    assert refused(SIGNATURE + body) == "CorruptImage"
    assert refused(SIGNATURE + chunk(b"CgBI", b"\x50\0\x20\6") + whole[8:]) == "UnsupportedImage"
    for end in (8, 20, 33, 40, len(whole) - 13, len(whole) - 5, len(whole) - 1):
        assert refused(whole[:end]) == "TruncatedImage"


def test_bytes_after_the_end_are_ignored() -> None:
    data = png(PIXELS, 8, 2)
    for suffix in (b"\0" * 999, b"garbage", data):
        np.testing.assert_array_equal(np.asarray(decode(data + suffix, max_pixels=1000).image), PIXELS)


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize(
    "turn",
    [
        chunk(b"eXIf", EXIF),
        chunk(b"eXIf", b"Exif\0\0" + EXIF),
        chunk(b"tEXt", b"Raw profile type exif\0\nexif\n      26\n" + EXIF.hex().encode()),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      26\n" + EXIF.hex().encode())),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP)),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(XMP + bytes(50 << 20))),
    ],
    ids=["Exif", "Exif with its name", "hexadecimal", "packed hexadecimal", "XMP", "packed XMP", "XMP, then 50 MB"],
)
def test_orientation_is_read_from_any_chunk(turn: bytes, where: str) -> None:
    image = decode(png(PIXELS, 8, 2, **{where: [turn]}), max_pixels=1000).image
    np.testing.assert_array_equal(np.asarray(image), np.rot90(PIXELS, -1))


def test_a_profile_is_unpacked_on_request() -> None:
    chunks = read_png_chunks(png(PIXELS, 8, 2, before=[chunk(b"iCCP", b"name\0\0" + zlib.compress(b"profile"))]))
    assert chunks.icc_profile == b"profile"
    assert read_png_chunks(png(PIXELS, 8, 2)).icc_profile is None
