"""BMPs with colours in any bits, and BMPs that are refused with the name of their kind."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.decode import decode

HEIGHT, WIDTH = 6, 9
COLOURS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 4))
PLAIN, RLE8, RLE4, MASKS, ALPHA_MASKS = 0, 1, 2, 3, 6
PALETTE = bytes(range(256)) * 4


def bmp(
    bits: int,
    body: bytes,
    packing: int = PLAIN,
    *,
    masks: tuple[int, ...] = (),
    header: int = 40,
    palette: bytes = b"",
    height: int = HEIGHT,
) -> bytes:
    info = struct.pack("<IiiHHIIiiII", header, WIDTH, height, 1, bits, packing, len(body), 0, 0, 0, 0)
    after = struct.pack(f"<{len(masks)}I", *masks)
    info += after if header == 40 else after.ljust(header - 40, b"\0")[: header - 40]
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + info + palette + body


def rows(values: npt.NDArray[Any], size: int) -> bytes:
    lines = (line.astype(f"<u{size}").tobytes() for line in values)
    return b"".join(line + bytes(-len(line) % 4) for line in lines)


def refused(data: bytes, kind: str = "UnsupportedImage", max_pixels: int = 1000) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels=max_pixels)
    assert caught.value.kind == kind
    return str(caught.value)


LAYOUTS: dict[str, tuple[int, tuple[int, ...]]] = {
    "5-5-5": (16, (0x7C00, 0x3E0, 0x1F)),
    "5-6-5": (16, (0xF800, 0x7E0, 0x1F)),
    "4-4-4": (16, (0xF00, 0xF0, 0xF)),
    "4-4-4-4": (16, (0xF00, 0xF0, 0xF, 0xF000)),
    "1-5-5-5": (16, (0x7C00, 0x3E0, 0x1F, 0x8000)),
    "blue first": (16, (0x1F, 0x3E0, 0x7C00)),
    "3-3-2": (16, (0xE0, 0x1C, 0x3)),
    "8-8-8": (32, (0xFF0000, 0xFF00, 0xFF)),
    "8-8-8-8": (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000)),
    "red first": (32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)),
    "alpha first": (32, (0xFF00, 0xFF0000, 0xFF000000, 0xFF)),
    "10-10-10": (32, (0x3FF00000, 0xFFC00, 0x3FF)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
def test_colours_in_any_bits(layout: str, header: int) -> None:
    bits, masks = LAYOUTS[layout]
    if len(masks) == 4 and header == 52:
        pytest.skip("it has no room for alpha")
    words = np.zeros((HEIGHT, WIDTH), np.int64)
    levels = np.full((HEIGHT, WIDTH, 4), 255.0)
    for channel, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1
        value = np.rint(COLOURS[..., channel] * (mask >> shift) / 255).astype(np.int64)
        words |= value << shift
        levels[..., channel] = value * 255 / (mask >> shift)
    alpha = levels[..., 3:] / 255
    wanted = levels[..., :3] * alpha + 255 * (1 - alpha)
    packing = ALPHA_MASKS if len(masks) == 4 and header == 40 else MASKS
    for height, stored in ((HEIGHT, words[::-1]), (-HEIGHT, words)):
        data = bmp(bits, rows(stored, bits // 8), packing, masks=masks, header=header, height=height)
        shown = np.asarray(decode(data, max_pixels=HEIGHT * WIDTH).image)
        assert np.abs(shown - wanted).max() <= 1.5
    refused(data[:-5], "TruncatedImage")
    refused(data, "TooManyPixels", max_pixels=HEIGHT * WIDTH - 1)


@pytest.mark.parametrize("masks", [(0, 0, 0), (0x5, 0x50, 0x500), (0xF00, 0xF0, 0)])
def test_invalid_masks(masks: tuple[int, ...]) -> None:
    refused(bmp(16, bytes(400), MASKS, masks=masks), "CorruptImage")


RUN = b"".join(b"".join(bytes([1, value & 255]) for value in line) + b"\0\0" for line in COLOURS[::-1, :, 0]) + b"\0\1"
LEFT_OUT = b"\0\2\3\2" + bytes([2, 5]) + b"\0\1"


def test_run_lengths() -> None:
    shown = np.asarray(decode(bmp(8, RUN, RLE8, palette=PALETTE), max_pixels=1000).image)
    blue = np.frombuffer(PALETTE, np.uint8).reshape(-1, 4)[COLOURS[..., 0]][..., 0]
    np.testing.assert_array_equal(shown[..., 2], blue)
    refused(bmp(8, RUN[:40], RLE8, palette=PALETTE), "TruncatedImage")


def inside(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT)).save(stream, kind)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        (bmp(8, LEFT_OUT, RLE8, palette=PALETTE), "run lengths leave pixels out"),
        (bmp(2, bytes(24), palette=PALETTE[:16]), "of 2 bits"),
        (bmp(64, bytes(8 * WIDTH * HEIGHT)), "of 64 bits"),
        (bmp(0, inside("JPEG"), 4), "a JPEG inside"),
        (bmp(0, inside("PNG"), 5), "a PNG inside"),
        (bmp(32, bytes(4 * WIDTH * HEIGHT), 11), "CMYK inks"),
        (bmp(1, bytes(24), 3, header=64, palette=PALETTE[:8]), "fax compression"),
        (bmp(24, RUN, 4, header=64), "24-bit run lengths"),
        (bmp(24, RUN, 99), "compression number 99"),
        (b"BM" + struct.pack("<IHHI", 192, 0, 0, 30) + struct.pack("<IiiHH", 16, 9, 6, 1, 24) + bytes(168), "OS/2"),
    ],
)
def test_an_unsupported_kind_is_named(data: bytes, phrase: str) -> None:
    message = refused(data)
    assert phrase in message
    assert message.endswith("save it with 24 bits")
