"""Samples of every kind of PNG become the specified colours; transparent ones become white."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from tests.images import profiles
from tests.images.pngs import chunk, packed, png

RNG = np.random.default_rng(11)
HEIGHT, WIDTH = 13, 19
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
KINDS = [(bits, GREY) for bits in (1, 2, 4, 8, 16)] + [
    (bits, colour) for colour in (RGB, GREY_ALPHA, RGBA) for bits in (8, 16)
]


def noise(bits: int, colour: int) -> npt.NDArray[np.int64]:
    return RNG.integers(0, 1 << bits, (HEIGHT, WIDTH, CHANNELS[colour]))


def read(data: bytes, **options: Any) -> npt.NDArray[np.int64]:
    result = decode(data, max_pixels=10**6, **options)
    assert (result.format, result.image.mode) == ("png", "RGB")
    return np.asarray(result.image).astype(np.int64)


def scaled(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[np.int64]:
    """Samples scaled to 0 to 255, rounded to the nearest."""
    return np.floor(samples * 255 / ((1 << bits) - 1) + 0.5).astype(np.int64)


def expected(samples: npt.NDArray[Any], bits: int, colour: int) -> npt.NDArray[np.float64]:
    """Colours by the specification, over white."""
    values = scaled(samples, bits).astype(np.float64)
    if colour in (GREY_ALPHA, RGBA):
        alpha = values[..., -1:] / 255
        values = values[..., :-1] * alpha + 255 * (1 - alpha)
    return np.broadcast_to(values, (HEIGHT, WIDTH, 3))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "colour"), KINDS)
def test_samples_become_colours(bits: int, colour: int, interlaced: bool) -> None:
    samples = noise(bits, colour)
    shown = read(png(samples, bits, colour, interlaced=interlaced, parts=3))
    tolerance = 1 if colour in (GREY_ALPHA, RGBA) else 0
    np.testing.assert_allclose(shown, expected(samples, bits, colour), atol=tolerance)


def test_each_value_of_16_bits_is_rounded_to_the_nearest() -> None:
    ramp = np.arange(1 << 16).reshape(256, 256, 1)
    shown = read(png(np.concatenate([ramp, ramp[::-1], ramp], axis=2), 16, RGB))
    np.testing.assert_array_equal(shown[..., 0], scaled(ramp[..., 0], 16))
    np.testing.assert_array_equal(shown[..., 1], scaled(ramp[::-1, :, 0], 16))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "colour"), [kind for kind in KINDS if kind[1] in (GREY, RGB)])
def test_a_transparent_colour_is_white_and_no_other(bits: int, colour: int, interlaced: bool) -> None:
    samples = noise(bits, colour)
    clear = samples[4, 5]
    samples[7, 7] = clear
    if bits == 16:  # such a pixel looks the same once it is rounded, and is not transparent
        samples[8, 8] = clear ^ 1
    chunks = [chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))]
    shown = read(png(samples, bits, colour, before=chunks, interlaced=interlaced))
    right = expected(samples, bits, colour).copy()
    right[(samples == clear).all(axis=2)] = 255
    np.testing.assert_array_equal(shown, right)
    assert (shown[7, 7] == 255).all()


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("clear", [0, 1, 2, 9])
def test_palettes_and_their_transparency(bits: int, clear: int, interlaced: bool) -> None:
    entries = 1 << bits
    clear = min(clear, entries)
    colours, alphas = RNG.integers(0, 256, (entries, 3)), RNG.integers(0, 255, clear)
    samples = noise(bits, PALETTE)
    chunks = [chunk(b"PLTE", bytes(colours.flatten().tolist()))]
    chunks += [chunk(b"tRNS", bytes(alphas.tolist()))] if clear else []
    shown = read(png(samples, bits, PALETTE, before=chunks, interlaced=interlaced))
    alpha = np.append(alphas, np.full(entries - clear, 255))[samples] / 255
    np.testing.assert_allclose(shown, colours[samples[..., 0]] * alpha + 255 * (1 - alpha), atol=1)


def test_a_palette_that_is_too_short_ends_in_black() -> None:
    samples = np.array([[[0], [1], [2], [3]]])
    shown = read(png(samples, 2, PALETTE, before=[chunk(b"PLTE", bytes([9, 8, 7, 90, 80, 70]))]))
    assert shown[0].tolist() == [[9, 8, 7], [90, 80, 70], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"\0\1\0\1", b"\0\1\0\1\0\1\0"], ids=["nothing", "short", "two", "long"]
)
def test_a_transparent_colour_of_wrong_length_is_ignored(content: bytes) -> None:
    samples = np.ones((HEIGHT, WIDTH, 3), int)
    assert (read(png(samples, 8, RGB, before=[chunk(b"tRNS", content)])) == 1).all()


def test_high_bits_of_a_transparent_sample_are_ignored() -> None:
    samples = np.array([[[1], [2]]])
    assert read(png(samples, 4, GREY, before=[chunk(b"tRNS", b"\x12\x31")]))[0, :, 0].tolist() == [255, 34]


def test_significant_bits_and_background_are_ignored() -> None:
    samples = noise(8, RGB)
    beside = [chunk(b"sBIT", bytes([5, 6, 5])), chunk(b"bKGD", bytes(6)), chunk(b"gAMA", struct.pack(">I", 10**5))]
    np.testing.assert_array_equal(read(png(samples, 8, RGB, before=beside)), samples)


def test_the_default_image_of_an_animation_is_read() -> None:
    samples = noise(8, RGB)
    frame = struct.pack(">IIIIIHHBB", 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)
    second = struct.pack(">IIIIIHHBB", 1, 1, 1, 0, 0, 1, 10, 0, 0)
    before = [chunk(b"acTL", struct.pack(">II", 2, 0)), chunk(b"fcTL", frame)]
    after = [chunk(b"fcTL", second), chunk(b"fdAT", struct.pack(">I", 2) + b"not even pixels")]
    np.testing.assert_array_equal(read(png(samples, 8, RGB, before=before, after=after)), samples)
    np.testing.assert_array_equal(read(png(samples, 8, RGB, before=before[:1], after=after)), samples)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_a_profile_of_greys_is_applied_at_every_depth(bits: int) -> None:
    samples = noise(bits, GREY)
    packed = chunk(b"iCCP", b"name\0\0" + zlib.compress(profiles.grey_profile(1.8)))
    linear = (samples / ((1 << bits) - 1)) ** 1.8 * np.array([0.9642, 1.0, 0.8249])
    shown = read(png(samples, bits, GREY, before=[packed]), icc=True)
    np.testing.assert_allclose(shown, profiles.encode_srgb(linear), atol=3)


@pytest.mark.parametrize(("bits", "colour"), [(8, GREY), (16, GREY), (8, RGB), (16, RGB), (8, PALETTE)])
def test_a_transparent_colour_stays_transparent_where_profiles_are_converted(bits: int, colour: int) -> None:
    samples = np.array([[[0], [1]]] if colour != RGB else [[[0, 0, 0], [300 % (1 << bits), 9, 9]]])
    before = [chunk(b"PLTE", bytes([200, 60, 30, 9, 9, 9]))] if colour == PALETTE else []
    before += [chunk(b"tRNS", bytes(1 if colour == PALETTE else 2 * samples.shape[2]))]
    profile = profiles.grey_profile(1.8) if colour == GREY else profiles.rgb_profile(profiles.DISPLAY_P3, 2.2)
    before.insert(0, chunk(b"iCCP", b"name\0\0" + zlib.compress(profile)))
    assert read(png(samples, bits, colour, before=before), icc=True)[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize(("bits", "colour"), [(16, RGB), (16, RGBA), (8, RGBA), (16, GREY), (8, GREY_ALPHA)])
def test_large_pictures_are_converted_in_bands(bits: int, colour: int) -> None:
    """A picture of three bands repeats a small one."""
    before, samples, times = [chunk(b"tRNS", bytes(6))] if colour == RGB else [], noise(bits, colour), (180, 55)
    large = decode(png(np.tile(samples, (*times, 1)), bits, colour, before=before), max_pixels=10**7).image
    assert large.width * large.height > 2 << 20
    small = read(png(samples, bits, colour, before=before))
    np.testing.assert_array_equal(np.asarray(large), np.tile(small, (*times, 1)))


def test_pixels_that_are_missing_or_damaged_are_an_error() -> None:
    whole = png(noise(8, RGB), 8, RGB, parts=4)
    first = whole.index(b"IDAT") - 4
    length = int.from_bytes(whole[first : first + 4], "big")
    without = whole[:first] + whole[first + 12 + length :]
    flipped = whole[: first + 8] + bytes([whole[first + 8] ^ 64]) + whole[first + 9 :]
    bomb = whole[:16] + struct.pack(">II", 900, 1000) + whole[24:]
    bomb = bomb[:8] + chunk(b"IHDR", bomb[16:29]) + bomb[33:]
    for broken in (without, flipped, bomb):
        with pytest.raises(ImageError) as caught:
            decode(broken, max_pixels=10**6)
        assert caught.value.kind == "CorruptImage"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("bits", "colour"), [(1, GREY), (8, GREY), (16, RGB), (8, RGBA)])
def test_missing_rows_in_a_complete_stream_are_an_error(bits: int, colour: int, interlaced: bool) -> None:
    samples = noise(bits, colour)
    rows = packed(samples, bits, interlaced=interlaced)
    row = 1 + (WIDTH * bits * CHANNELS[colour] + 7) // 8
    header = png(samples, bits, colour, interlaced=interlaced)[:33]
    for missing in (1, 3):
        pixels = chunk(b"IDAT", zlib.compress(rows[: len(rows) - missing * row]))
        with pytest.raises(ImageError, match="too few") as caught:
            read(header + pixels + chunk(b"IEND", b""))
        assert caught.value.kind == "CorruptImage"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 2), (13, 4)])
def test_all_black_pictures_are_complete(size: tuple[int, int], interlaced: bool) -> None:
    for bits, colour in KINDS:
        black = np.zeros((*size, CHANNELS[colour]), np.int64)
        black[..., -1] = (1 << bits) - 1 if colour in (GREY_ALPHA, RGBA) else 0
        assert not read(png(black, bits, colour, interlaced=interlaced)).any()
