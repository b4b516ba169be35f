"""All combinations of depths, colours, layouts and compressions of a TIFF are read correctly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cvbatch.errors import ImageError
from cvbatch.images.decode import DecodedImage, decode
from cvbatch.images.windows import open_windows
from tests.images.tiff.writing import Tagged, page, tiff

Numbers = npt.NDArray[Any]
LIMIT = 1_000_000
HEIGHT, WIDTH = 13, 19
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, INKS, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, INKS: 4}
CUTS: list[dict[str, Any]] = [{}, {"rows": 5}, {"tile": (16, 16)}]
COMPRESSIONS = [1, 5, 8, 32773, 32946, 34925, 50000]
EXTRAS: list[tuple[int, ...]] = [(), (0,), (1,), (2,), (0, 0), (2, 0), (0, 2)]


def numbers(samples: int, bits: int, *, seed: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Numbers:
    drawn = np.random.default_rng(seed).integers(0, 1 << bits, (*size, samples))
    drawn[0, :2] = np.array([[0], [(1 << bits) - 1]])
    return drawn


def read(data: bytes, **options: Any) -> DecodedImage:
    result = decode(data, max_pixels=LIMIT, **options)
    assert (result.format, result.image.mode) == ("tiff", "RGB")
    compare_windows(data, result, **options)
    return result


def compare_windows(data: bytes, whole: DecodedImage, **options: Any) -> None:
    """Windows of every file of these tests are parts of the picture, which is not decoded as a whole for them."""
    reader = open_windows(data, max_pixels=LIMIT, **options)
    assert (reader.width, reader.height, reader.exif) == (whole.width, whole.height, whole.exif)
    expected = np.asarray(whole.image)
    sides = [sorted({0, side // 3, side - side // 3, side}) for side in (whole.height, whole.width)]
    for (top, bottom), (left, right) in itertools.product(*map(itertools.pairwise, sides)):
        part = reader.read(top, left, bottom - top, right - left)
        np.testing.assert_array_equal(part, expected[top:bottom, left:right])


def pixels(data: bytes) -> Numbers:
    return np.asarray(read(data).image).astype(np.int64)


def read_in_parts(data: bytes, max_pixels: int) -> None:
    reader = open_windows(data, max_pixels=max_pixels)
    reader.read(0, 0, reader.height, reader.width)


def refused(data: bytes, kind: str, *, max_pixels: int = LIMIT) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, max_pixels=max_pixels)
    assert caught.value.kind == kind
    with pytest.raises(ImageError) as caught_in_parts:
        read_in_parts(data, max_pixels)
    assert caught_in_parts.value.kind == kind
    return str(caught.value)


def palette_of(bits: int) -> Numbers:
    return np.random.default_rng(bits).integers(0, 256, (3, 1 << bits))


def expected(raw: Numbers, bits: int, photometric: int, extra: Sequence[int]) -> Numbers:
    """Expected pixels over white by the specification, in floating point."""
    full = (1 << bits) - 1
    count = COLOURS[photometric]
    colours = raw[..., :count] / full
    alpha = next((raw[..., count + index, None] / full for index, kind in enumerate(extra) if kind in (1, 2)), None)
    premultiplied = 1 in extra
    if photometric == PALETTE:
        colours = palette_of(bits).T[raw[..., 0]] / 255
        premultiplied = False
    if photometric == WHITE_IS_ZERO:
        colours = 1 - colours
    if photometric == INKS:
        if premultiplied and alpha is not None:
            colours = np.minimum(colours / np.maximum(alpha, 1e-9), 1)
            premultiplied = False
        colours = (1 - colours[..., :3]) * (1 - colours[..., 3:])
    if alpha is not None:
        colours = np.minimum(colours + 1 - alpha, 1) if premultiplied else colours * alpha + 1 - alpha
    return np.broadcast_to(colours * 255, (*raw.shape[:2], 3))


def assert_right(data: bytes, wanted: Numbers, *, exact: bool, low: Numbers | None = None) -> None:
    off = np.abs(pixels(data) - wanted)
    if low is not None:
        off = off[~low]
    assert off.max() <= (0.5 + 1e-9 if exact else 2.01)


@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("photometric", COLOURS)
def test_depth_colours_planes_and_extra_samples(photometric: int, bits: int) -> None:
    ways = itertools.islice(itertools.cycle(itertools.product(CUTS, COMPRESSIONS, "<>", (1, 2))), bits * 5, None)
    tags = {320: Tagged(3, (palette_of(bits) * 257).ravel().tolist())} if photometric == PALETTE else {}
    for extra, planar in itertools.product(EXTRAS, (1, 2)):
        samples = COLOURS[photometric] + len(extra)
        if photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO) and extra == (0, 0):
            continue
        if photometric == PALETTE and bits > 11 and len(extra) == 2:
            continue  # half a second each
        cut, compression, order, fill = next(ways)
        raw = numbers(samples, bits, seed=planar)
        data = tiff(
            page(raw, bits=bits, photometric=photometric, planar=planar, extra=extra or None, order=order, fill=fill,
                 compression=compression, tags=tags, **cut),
            order=order,
        )  # fmt: skip
        alpha = any(extra)
        # Inks multiplied by a small alpha lose all but their highest bits.
        low = (raw[..., 4 + extra.index(1)] < ((1 << bits) - 1) * 0.7) if photometric == INKS and 1 in extra else None
        wanted = expected(raw, bits, photometric, extra)
        assert_right(data, wanted, exact=not alpha and photometric != INKS, low=low)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bits", [1, 4, 8, 12, 16])
def test_cuts_byte_orders_fill_orders_and_predictors(bits: int, compression: int) -> None:
    for cut, order, fill, planar, big in itertools.product(CUTS, "<>", (1, 2), (1, 2), (False, True)):
        predictor = 2 if bits in (8, 16) and compression not in (1, 32773) and big else 1
        raw = numbers(3, bits, seed=fill)
        one = page(raw, bits=bits, photometric=RGB, planar=planar, compression=compression, predictor=predictor,
                   fill=fill, order=order, **cut)  # fmt: skip
        assert_right(tiff(one, order=order, big=big), expected(raw, bits, RGB, ()), exact=True)
