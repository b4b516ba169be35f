"""JPEGs decode to the pixels of Pillow, rare kinds included, and damage is never missed."""

from __future__ import annotations

import io
from itertools import product
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from cvbatch.errors import ImageError
from cvbatch.images.decode import DecodedImage, decode
from tests.images.jpegs import END, KINDS, PHOTO, in_passes, jpeg, pixels_at, put, segment_at

LIMIT = 1_000_000
SIZES = ((1, 1), (1, 40), (40, 1), (2, 2), (15, 17), (16, 16), (33, 47), (241, 179))
CODINGS: tuple[dict[str, Any], ...] = (
    {"subsampling": 0},
    {"subsampling": 1},
    {"subsampling": 2},
    {"subsampling": "4:1:1"},
    {"progressive": True},
    {"optimize": True, "quality": 30},
    {"restart_marker_blocks": 3},
    {"keep_rgb": True},
)


def decoded(data: bytes, **options: Any) -> DecodedImage:
    return decode(data, max_pixels=LIMIT, **options)


def pixels(data: bytes, **options: Any) -> npt.NDArray[np.uint8]:
    return np.asarray(decoded(data, **options).image)


def by_pillow(data: bytes, min_side: int | None = None) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        if min_side:
            image.draft(image.mode, (min_side, min_side))
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def refused(data: bytes, kind: str, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **{"max_pixels": LIMIT, **options})
    assert caught.value.kind == kind
    return str(caught.value)


@pytest.mark.parametrize("coding", CODINGS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_those_of_pillow(size: tuple[int, int], coding: dict[str, Any]) -> None:
    image = PHOTO.resize(size)
    for variant in (image, image.convert("L"), image.convert("CMYK")):
        if variant.mode == "RGB" or not {"subsampling", "keep_rgb"} & set(coding):
            data = jpeg(variant, **coding)
            np.testing.assert_array_equal(pixels(data), by_pillow(data))


def sampled(*factors: int) -> bytes:
    """A JPEG with any sampling factors, made from the codes of a grey one."""
    width, height = 96, 96
    blocks = [(factor >> 4) * (factor & 15) for factor in factors]
    across, down = max(factor >> 4 for factor in factors), max(factor & 15 for factor in factors)
    count = -(-width // (8 * across)) * -(-height // (8 * down)) * sum(blocks)
    grey = PHOTO.convert("L").resize((8, 8 * count))
    data = jpeg(grey)
    start, end = pixels_at(data)
    # brightness is coded as a difference to the last block of the channel, so all blocks must be about as bright
    head = data[: segment_at(data, 0xC0)]
    tables = data[segment_at(data, 0xC4) : segment_at(data, 0xDA)]
    channels = b"".join(bytes((number, factor, 0)) for number, factor in enumerate(factors, 1))
    frame = b"\xff\xc0\0\x11\x08" + bytes((0, height, 0, width, 3)) + channels
    scan = b"\xff\xda\0\x0c\x03\1\0\2\0\3\0\0\x3f\0"
    return head + frame + tables + scan + data[start:end] + END


SAMPLINGS = ((0x31, 0x11, 0x11), (0x11, 0x22, 0x22), (0x13, 0x11, 0x11), (0x22, 0x21, 0x11), (0x41, 0x11, 0x11))


@pytest.mark.parametrize("factors", SAMPLINGS)
def test_pixels_of_rare_samplings_are_those_of_pillow(factors: tuple[int, ...]) -> None:
    data = sampled(*factors)
    for min_side in (None, 20):
        np.testing.assert_array_equal(pixels(data, min_decode_side=min_side), by_pillow(data, min_side))


@pytest.mark.parametrize("factors", SAMPLINGS)
def test_padding_is_harmless_with_rare_samplings(factors: tuple[int, ...]) -> None:
    data = sampled(*factors)
    for filled in (b"\0" * 40, b"\xff" * 40):
        np.testing.assert_array_equal(pixels(put(data, len(data) - 2, filled)), by_pillow(data))


@pytest.mark.parametrize("damage", ["lost bytes", "half of it"])
@pytest.mark.parametrize("factors", SAMPLINGS)
def test_damage_of_rare_samplings_is_detected(factors: tuple[int, ...], damage: str) -> None:
    data = sampled(*factors)
    broken = DAMAGES[damage](data, *pixels_at(data))
    refused(broken, "CorruptImage")
    assert decoded(broken, keep_damaged=True).warning


@pytest.mark.parametrize("turn", range(1, 9))
def test_rotated_pixels_are_those_of_pillow(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = jpeg(PHOTO.resize((61, 40)), exif=exif)
    np.testing.assert_array_equal(pixels(data), by_pillow(data))
    assert decoded(data).width == (61 if turn < 5 else 40)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("min_side", [25, 30, 60, 100, 240, 1000])
def test_scaled_pixels_are_those_of_pillow(kind: str, min_side: int) -> None:
    np.testing.assert_array_equal(pixels(KINDS[kind], min_decode_side=min_side), by_pillow(KINDS[kind], min_side))


def test_ycck_is_read_as_pillow_does() -> None:
    ycck = jpeg(PHOTO.convert("CMYK"))
    adobe = segment_at(ycck, 0xEE)
    changed = put(ycck, adobe + 15, b"\2", instead_of=1)
    np.testing.assert_array_equal(pixels(changed), by_pillow(changed))
    assert not np.array_equal(pixels(changed), pixels(ycck))


DAMAGES = {
    "a hole of zeros": lambda data, start, end: put(data, (start + end) // 2, bytes(700), instead_of=700),
    "a small hole of zeros": lambda data, start, end: put(data, (start + end) // 3, bytes(80), instead_of=80),
    "other bytes": lambda data, start, end: put(
        data, (start + end) // 2, np.random.default_rng(1).bytes(700).replace(b"\xff", b"\0"), instead_of=700
    ),
    "lost bytes": lambda data, start, end: put(data, (start + end) // 2, b"", instead_of=700),
    "bytes too many": lambda data, start, end: put(data, (start + end) // 2, data[start + 700 : start + 1400]),
    "half of it": lambda data, start, end: data[: (start + end) // 2] + END,
    "half of it and zeros": lambda data, start, end: data[: (start + end) // 2] + bytes(end - start) + END,
    "a foreign marker": lambda data, start, end: put(data, (start + end) // 2, b"\xff\x5a", instead_of=2),
}


DETECTED = [case for case in product(KINDS, DAMAGES) if "progressive" not in case[0] or "small" not in case[1]]
"""All but small gaps of zeros in progressive files, where zeros may be valid."""


@pytest.mark.parametrize(("kind", "damage"), DETECTED)
def test_a_damaged_jpeg_is_an_error(kind: str, damage: str) -> None:
    data = KINDS[kind]
    broken = DAMAGES[damage](data, *pixels_at(data))
    assert refused(broken, "CorruptImage").startswith("jpeg is damaged: ")
    refused(broken, "CorruptImage", min_decode_side=30)
    refused(put(broken, 2, thumbnail()), "CorruptImage")


def thumbnail() -> bytes:
    small = jpeg(PHOTO.resize((40, 30)))
    return b"\xff\xe1" + (len(small) + 8).to_bytes(2, "big") + b"Exif\0\0" + small


@pytest.mark.parametrize(("kind", "damage"), DETECTED)
def test_a_damaged_jpeg_that_is_kept_has_its_good_part_and_a_warning(kind: str, damage: str) -> None:
    data = KINDS[kind]
    result = decoded(DAMAGES[damage](data, *pixels_at(data)), keep_damaged=True)
    assert result.image.size == PHOTO.size
    assert result.warning is not None
    if "progressive" not in kind:
        np.testing.assert_array_equal(np.asarray(result.image)[:48], pixels(data)[:48])
    assert decoded(data, keep_damaged=True).warning is None


@pytest.mark.parametrize("lost", [1, 3, 8])
def test_lost_restart_intervals(lost: int) -> None:
    data = jpeg(restart_marker_blocks=10)
    marks = [offset for offset in range(len(data)) if data[offset] == 0xFF and 0xD0 <= data[offset + 1] <= 0xD7]
    broken = data[: marks[5]] + data[marks[5 + lost] :]
    refused(broken, "CorruptImage")
    assert decoded(broken, keep_damaged=True).warning


def scans(data: bytes) -> list[int]:
    return [offset for offset in range(len(data) - 1) if data[offset : offset + 2] == b"\xff\xda"]


@pytest.mark.parametrize("damaged", [False, True])
def test_too_many_passes_are_refused(damaged: bool) -> None:
    data = KINDS["progressive"]
    start = data.rindex(b"\xff\xda")
    scan = data[start : data.rindex(b"\xff\xd9")]
    message = refused(data[:start] + 600 * scan + END, "DecompressionBomb", keep_damaged=damaged)
    assert "more than 500 passes over its pixels" in message


def test_a_progressive_jpeg_that_lacks_its_last_passes() -> None:
    data = KINDS["progressive"]
    for count in (1, 3, 8):
        end = scans(data)[-count]
        end = data.rindex(b"\xff\xc4", 0, end) if data.find(b"\xff\xc4", end - 120, end) > 0 else end
        assert "passes" in refused(data[:end] + END, "CorruptImage")


FLAT = Image.new("L", (640, 480), 128)
TEXTURE = PHOTO.convert("L").resize((640, 480))


def test_a_scan_for_each_channel() -> None:
    data = in_passes([TEXTURE, FLAT, FLAT])
    assert bytes(40) in data, "a flat channel is zeros"
    np.testing.assert_array_equal(pixels(data), by_pillow(data))
    start, end = scans(data)[1], scans(data)[2]
    assert "passes" in refused(
        data[: data.rindex(b"\xff\xc4\0", 0, data.rindex(b"\xff\xc4\0", 0, end))] + END, "CorruptImage"
    )
    assert start < end


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_jpeg_is_kept_as_far_as_it_goes(kind: str) -> None:
    data = KINDS[kind]
    cut = data[: len(data) * 2 // 3]
    assert "end marker" in refused(cut, "TruncatedImage")
    result = decoded(cut, keep_damaged=True)
    assert result.warning == "jpeg is damaged: its end marker is missing"
    if "progressive" not in kind:
        np.testing.assert_array_equal(np.asarray(result.image)[:100], pixels(data)[:100])


def test_a_jpeg_that_is_cut_in_its_header_cannot_be_kept() -> None:
    with pytest.raises(ImageError, match="before its pixels start"):
        decoded(jpeg()[:300], keep_damaged=True)


def test_a_jpeg_without_a_readable_part_is_an_error() -> None:
    data = KINDS["4:2:0"]
    table = segment_at(data, 0xDB)
    without = put(data, table, b"", instead_of=2 + int.from_bytes(data[table + 2 : table + 4], "big"))
    assert "nothing" in refused(without, "CorruptImage", keep_damaged=True)


SQUARE = np.asarray(PHOTO.resize((96, 64)))
SMOOTH = np.stack(np.broadcast_arrays(np.arange(96) * 2, np.arange(64)[:, None] * 3, 90), axis=2).astype(np.uint8)
RARE = {
    "JPEG-LS": (imagecodecs.jpegls_encode(SQUARE), SQUARE),
    "JPEG-LS, grey": (imagecodecs.jpegls_encode(SQUARE[..., 1].copy()), SQUARE[..., [1, 1, 1]]),
    "lossless": (imagecodecs.jpeg8_encode(SQUARE, lossless=True), SQUARE),
    "lossless, grey": (imagecodecs.jpeg8_encode(SQUARE[..., 1].copy(), lossless=True), SQUARE[..., [1, 1, 1]]),
    "lossless, 16 bits": (
        imagecodecs.jpeg8_encode(SQUARE.astype(np.uint16) * 257, lossless=True, bitspersample=16),
        SQUARE,
    ),
    "12 bits, grey": (
        imagecodecs.jpeg8_encode(SQUARE[..., 1].astype(np.uint16) * 16 + 8, level=100, bitspersample=12),
        SQUARE[..., [1, 1, 1]],
    ),
    "12 bits": (imagecodecs.jpeg8_encode(SMOOTH.astype(np.uint16) * 16 + 8, level=100, bitspersample=12), SMOOTH),
}


@pytest.mark.parametrize("kind", RARE)
def test_rare_kinds(kind: str) -> None:
    data, expected = RARE[kind]
    result = decoded(data, min_decode_side=10)
    assert (result.format, result.width, result.height) == ("jpeg", 96, 64)
    difference = np.abs(np.asarray(result.image).astype(int) - expected)
    assert difference.max() <= (2 if "12 bits" in kind else 0)


@pytest.mark.parametrize("kind", RARE)
def test_a_damaged_rare_kind_is_an_error(kind: str) -> None:
    data, _ = RARE[kind]
    refused(data[: len(data) // 2] + END, "CorruptImage")
    refused(data[: len(data) // 2], "TruncatedImage")


def test_a_rare_kind_has_its_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes()
    data = put(RARE["12 bits"][0], 2, b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block)
    assert decoded(data).width == 64


def test_a_height_after_the_pixels() -> None:
    data = KINDS["4:2:0"]
    frame, (_, end) = segment_at(data, 0xC0), pixels_at(data)
    late = put(data, end, b"\xff\xdc\0\4" + data[frame + 5 : frame + 7])
    without_height = put(late, frame + 5, b"\0\0", instead_of=2)
    np.testing.assert_array_equal(pixels(without_height), pixels(data))
    refused(put(without_height, end + 4, b"\0\0", instead_of=2), "CorruptImage")
    refused(without_height, "TooManyPixels", max_pixels=320 * 240 - 1)


@pytest.mark.parametrize(
    ("offset", "new", "phrase"),
    [
        (1, b"\xc5", "hierarchical"),
        (1, b"\xcb", "arithmetic"),
        (4, b"\x0a", "10 bits"),
        (9, b"\2", "2 channels"),
    ],
)
def test_valid_kinds_that_no_library_decodes_are_unsupported(offset: int, new: bytes, phrase: str) -> None:
    data = KINDS["4:2:0"]
    assert phrase in refused(put(data, segment_at(data, 0xC0) + offset, new, instead_of=1), "UnsupportedImage")
