"""Image codecs in strips and tiles, luma and chroma, L*a*b*; damaged, truncated and unsupported files."""

from __future__ import annotations

import io
import itertools
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from tests.images.tiff.test_reader import (
    BLACK_IS_ZERO,
    CIELAB,
    COMPRESSIONS,
    CUTS,
    ICCLAB,
    INKS,
    LIMIT,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    numbers,
    pixels,
    refused,
)
from tests.images.tiff.writing import PACKERS, Page, Tagged, page, tiff

Numbers = npt.NDArray[Any]
SMOOTH = np.stack(np.meshgrid(np.arange(48) * 5, np.arange(32) * 7), axis=-1)[..., [0, 1, 0, 1]].astype(np.uint8)
LAID_OUT: list[dict[str, Any]] = [{}, {"rows": 16}, {"tile": (16, 32)}]
ENCODERS: dict[int, Callable[..., bytes]] = {
    33005: imagecodecs.jpeg2k_encode,
    34712: imagecodecs.jpeg2k_encode,
    34887: imagecodecs.lerc_encode,
    34927: lambda part: imagecodecs.webp_encode(part, lossless=True),
    34933: imagecodecs.png_encode,
    50001: lambda part: imagecodecs.webp_encode(part, lossless=True),
    50002: lambda part: imagecodecs.jpegxl_encode(part, lossless=True),
}


def packed_as(compression: int, dtype: type[np.generic] = np.uint8) -> Callable[[Numbers], bytes]:
    def pack(part: Numbers) -> bytes:
        plain = np.ascontiguousarray(part.astype(dtype))
        return bytes(ENCODERS[compression](plain[..., 0] if plain.shape[2] == 1 else plain))

    return pack


@pytest.mark.parametrize("compression", ENCODERS)
def test_parts_of_other_formats(compression: int) -> None:
    webp = compression in (34927, 50001)
    for cut, order in itertools.product(LAID_OUT, "<>"):
        raw = numbers(3, 8, size=(32, 48))
        one = page(raw, photometric=RGB, compression=compression, pack=packed_as(compression), order=order, **cut)
        np.testing.assert_array_equal(pixels(tiff(one, order=order)), raw)
        if webp:
            continue
        grey = numbers(1, 8, size=(32, 48))
        if compression != 34933:
            inverse = page(grey, photometric=WHITE_IS_ZERO, compression=compression, pack=packed_as(compression), **cut)
            np.testing.assert_array_equal(pixels(tiff(inverse)), 255 - np.repeat(grey, 3, 2))
        deep = numbers(3, 16, size=(32, 48))
        one = page(
            deep, bits=16, photometric=RGB, compression=compression, pack=packed_as(compression, np.uint16), **cut
        )
        np.testing.assert_array_equal(pixels(tiff(one)), np.rint(deep / 257))


@pytest.mark.parametrize("compression", ENCODERS)
def test_parts_of_other_formats_that_are_damaged_or_another_picture(compression: int) -> None:
    raw = numbers(3, 8, size=(32, 48))
    whole = packed_as(compression)
    half = page(raw, photometric=RGB, compression=compression, pack=lambda part: whole(part)[:200])
    assert "damaged" in refused(tiff(half), "CorruptImage")
    giant = page(raw, photometric=RGB, compression=compression, pack=lambda part: whole(np.tile(part, (9, 9, 1))))
    assert "another size" in refused(tiff(giant), "UnsupportedImage")


def test_jpeg_2000_of_12_bits() -> None:
    raw = numbers(1, 12, size=(32, 48))
    packed = bytes(imagecodecs.jpeg2k_encode(raw[..., 0].astype(np.uint16), bitspersample=12))
    one = page(raw, bits=12, compression=34712, pack=lambda part: packed)
    np.testing.assert_array_equal(pixels(tiff(one))[..., 0], np.rint(raw[..., 0] * 255 / 4095))


def jpeg_part(space: str | None, out: str | None = None, **options: Any) -> Callable[[Numbers], bytes]:
    def pack(part: Numbers) -> bytes:
        plain = np.ascontiguousarray(part.astype(np.uint8))
        plain = plain[..., 0] if plain.shape[2] == 1 else plain
        return bytes(imagecodecs.jpeg8_encode(plain, level=98, colorspace=space, outcolorspace=out or space, **options))

    return pack


@pytest.mark.parametrize("cut", LAID_OUT)
def test_jpeg_parts_of_all_colours(cut: dict[str, Any]) -> None:
    grey, rgb, inks = SMOOTH[..., :1].astype(int), SMOOTH[..., :3].astype(int), SMOOTH.astype(int)
    full: list[tuple[Page, Numbers]] = [
        (page(grey, compression=7, pack=jpeg_part("GRAYSCALE"), **cut), np.repeat(grey, 3, 2)),
        (page(grey, photometric=0, compression=7, pack=jpeg_part("GRAYSCALE"), **cut), 255 - np.repeat(grey, 3, 2)),
        (page(rgb, photometric=RGB, compression=7, pack=jpeg_part("RGB"), **cut), rgb),
        (page(rgb, photometric=YCBCR, compression=7, pack=jpeg_part("RGB", "YCBCR", subsampling="444"), **cut), rgb),
        (page(rgb, photometric=RGB, planar=2, compression=7, pack=jpeg_part("GRAYSCALE"), **cut), rgb),
        (
            page(inks, photometric=INKS, compression=7, pack=jpeg_part("CMYK"), **cut),
            (255 - inks[..., :3]) * (255 - inks[..., 3:]) / 255,
        ),
    ]
    for one, wanted in full:
        assert np.abs(pixels(tiff(one)) - wanted).max() <= 8


def jpeg_by_pillow(**options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(SMOOTH[..., :3]).resize((200, 150)).save(stream, "TIFF", compression="jpeg", **options)
    return stream.getvalue()


@pytest.mark.parametrize("quality", [75, 95])
def test_jpeg_parts_with_separate_tables_are_decoded_as_by_libtiff(quality: int) -> None:
    data = jpeg_by_pillow(quality=quality)
    with Image.open(io.BytesIO(data)) as plain:
        np.testing.assert_array_equal(pixels(data), np.asarray(plain.convert("RGB")))


def test_damage_in_a_jpeg_part_is_an_error() -> None:
    data = jpeg_by_pillow()
    with Image.open(io.BytesIO(data)) as plain:
        begin, length = plain.tag_v2[273][0], plain.tag_v2[279][0]  # type: ignore[attr-defined]  # of TIFFs
    middle = begin + length // 2
    holed = data[:middle] + b"\xff\xd9" + bytes(length - length // 2 - 2) + data[begin + length :]
    assert "jpeg is damaged" in refused(holed, "CorruptImage")


@pytest.mark.parametrize("bits", [8, 12])
def test_jpeg_parts_of_more_bits_and_without_loss(bits: int) -> None:
    deep = np.ascontiguousarray(SMOOTH[..., :3].astype(np.uint16 if bits > 8 else np.uint8) << (bits - 8))
    for lossless in (False, True):
        options = {"level": 99, "colorspace": "RGB", "outcolorspace": "RGB", "bitspersample": bits}
        packed = bytes(imagecodecs.jpeg8_encode(deep, lossless=lossless, **options))
        one = page(deep, bits=bits, photometric=RGB, compression=7, pack=lambda part, packed=packed: packed)
        assert np.abs(pixels(tiff(one)) - deep * 255.0 / ((1 << bits) - 1)).max() <= (0.51 if lossless else 3)


FAX = {2: "tiff_ccitt", 3: "group3", 4: "group4"}


@pytest.mark.parametrize("fill", [1, 2])
@pytest.mark.parametrize("photometric", [WHITE_IS_ZERO, BLACK_IS_ZERO])
@pytest.mark.parametrize("kind", FAX.values())
def test_fax(kind: str, photometric: int, fill: int) -> None:
    drawn = np.random.default_rng(1).integers(0, 4, (40, 61)) > 2
    stream = io.BytesIO()
    tags = {262: photometric, 266: fill, 278: 16}
    Image.fromarray(drawn).save(stream, "TIFF", compression=kind, tiffinfo=tags)
    with Image.open(io.BytesIO(stream.getvalue())) as plain:
        assert plain.tag_v2[262] == photometric  # type: ignore[attr-defined]  # of TIFFs
        np.testing.assert_array_equal(pixels(stream.getvalue()), np.asarray(plain.convert("RGB")))


@pytest.mark.parametrize("subsampling", list(itertools.product((1, 2, 4), (1, 2, 4))), ids=str)
def test_luma_and_chroma_are_converted_as_by_libtiff(subsampling: tuple[int, int]) -> None:
    across, down = subsampling
    if across < down:
        pytest.skip("libtiff refuses those")

    def pack(part: Numbers) -> bytes:
        high, wide = -(-part.shape[0] // down), -(-part.shape[1] // across)
        whole = np.pad(part, [(0, high * down - part.shape[0]), (0, wide * across - part.shape[1]), (0, 0)])
        luma = whole[..., 0].reshape(high, down, wide, across).transpose(0, 2, 1, 3).reshape(high, wide, -1)
        chroma = whole[::down, ::across, 1:]
        return np.concatenate([luma, chroma], axis=2).astype(np.uint8).tobytes()

    raw = numbers(3, 8, size=(21, 30))
    video = {532: [(16, 1), (235, 1), (128, 1), (240, 1), (128, 1), (240, 1)]}
    for tags, cut in itertools.product(({}, video), ({}, {"rows": 8}, {"tile": (16, 16)})):
        told = {530: list(subsampling), **tags}
        packed = page(raw, photometric=YCBCR, compression=5, pack=lambda part: PACKERS[5](pack(part)), tags=told, **cut)
        plain = page(raw, photometric=YCBCR, pack=pack, tags=told, **cut)
        with Image.open(io.BytesIO(tiff(packed))) as by_libtiff:
            wanted = np.asarray(by_libtiff.convert("RGB")).astype(int)
        for one in (packed, plain):
            assert np.abs(pixels(tiff(one)) - wanted).max() <= 3  # it counts in whole steps


def lab_to_rgb(lab: Numbers) -> Numbers:
    """By its definition: CIE 15, D50 as white, then Bradford to sRGB (IEC 61966-2-1)."""
    f_y = (lab[..., 0] + 16) / 116
    f = np.stack([f_y + lab[..., 1] / 500, f_y, f_y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * [0.9642, 1, 0.8249]
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(xyz @ np.array(matrix).T, 0, 1)
    return 255 * np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("photometric", [CIELAB, ICCLAB])
def test_lab(photometric: int, bits: int) -> None:
    lab = np.array(
        [[[100, 0, 0], [53, 80, 67], [0, 0, 0], [50, 0, 0]], [[60, -60, 40], [40, 20, -50], [80, 5, 5], [20, 9, 0]]]
    )
    if photometric == CIELAB:
        scale = [(255 if bits == 8 else 65535) / 100] + [1 if bits == 8 else 256] * 2
        raw = np.rint(lab * scale).astype(int) & ((1 << bits) - 1)
    else:
        scale, offset = ([2.55, 1, 1], 128) if bits == 8 else ([652.8, 256, 256], 0x8000)
        raw = np.rint(lab * scale + [0, offset, offset]).astype(int)
    one = page(raw, bits=bits, photometric=photometric)
    assert np.abs(pixels(tiff(one)) - lab_to_rgb(lab)).max() <= 5


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("cut", CUTS)
def test_truncated_and_damaged_files_are_errors(cut: dict[str, Any], compression: int) -> None:
    data = tiff(page(numbers(3, 8), photometric=RGB, compression=compression, **cut))
    with Image.open(io.BytesIO(data)) as plain:
        begin = plain.tag_v2.get(273, plain.tag_v2.get(324))  # type: ignore[attr-defined]  # of TIFFs
    # The directory follows the pixels.
    for length in (9, 20, len(data) // 2, len(data) - 3):
        refused(data[:length], "TruncatedImage")
    if compression not in (1, 32773):
        last = begin[-1]
        refused(data[: last + 2] + b"\xff" * 20 + data[last + 22 :], "CorruptImage")


def test_packed_bytes_that_end_too_early() -> None:
    raw = numbers(3, 8)
    for compression in COMPRESSIONS[1:]:
        few = page(
            raw, photometric=RGB, compression=compression, pack=lambda part, c=compression: PACKERS[c](bytes(100))
        )
        assert "end too early" in refused(tiff(few), "CorruptImage")
    more = page(raw, photometric=RGB, compression=8, pack=lambda part: PACKERS[8](part.astype(np.uint8).tobytes() * 3))
    np.testing.assert_array_equal(pixels(tiff(more)), raw)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
def test_a_file_may_end_with_its_only_directory(order: str, big: bool) -> None:
    raw = numbers(3, 8)
    whole = tiff(page(raw, photometric=RGB, order=order), order=order, big=big)
    np.testing.assert_array_equal(pixels(whole[: -8 if big else -4]), raw)
    refused(whole[: -9 if big else -5], "TruncatedImage")


@pytest.mark.parametrize("more", [b"", bytes(3_000_000)])
def test_the_checksum_of_a_deflated_part_is_verified_despite_surplus_bytes(more: bytes) -> None:
    raw = np.random.default_rng(4).integers(0, 256, (50, 40, 1), np.uint8)
    good = zlib.compress(raw.tobytes() + more, 0)
    bad = good[:900] + bytes(200) + good[1100:]
    np.testing.assert_array_equal(pixels(tiff(page(raw, compression=8, pack=lambda _: good)))[..., 0], raw[..., 0])
    refused(tiff(page(raw, compression=8, pack=lambda _: bad)), "CorruptImage")


@pytest.mark.parametrize(
    ("tags", "kind"),
    [
        ({273: Tagged(4, [8])}, "CorruptImage"),
        ({273: Tagged(4, [8, 0, 8])}, "CorruptImage"),
        ({273: Tagged(4, [8, 1 << 30, 8])}, "TruncatedImage"),
        ({273: Tagged(7, b"12345678")}, "CorruptImage"),
        ({256: 0}, "CorruptImage"),
        ({256: None}, "CorruptImage"),
        ({257: None}, "CorruptImage"),
        ({258: [0, 0, 0]}, "CorruptImage"),
        ({322: 0, 323: 16}, "CorruptImage"),
        ({256: 60_000, 257: 50_000}, "TooManyPixels"),
        ({322: 60_000, 323: 50_000}, "TooManyPixels"),
    ],
    ids=str,
)
def test_invalid_tags(tags: dict[int, Any], kind: str) -> None:
    refused(tiff(page(numbers(3, 8), photometric=RGB, rows=5, tags=tags)), kind)


@pytest.mark.parametrize("compression", [34712, 34887, 34933, 50002])
@pytest.mark.parametrize(("bits", "dtype"), [(4, np.uint8), (4, np.uint16), (12, np.uint8)])
def test_parts_of_another_depth_than_declared(bits: int, dtype: type[np.generic], compression: int) -> None:
    one = page(SMOOTH[..., :3], photometric=RGB, compression=compression, pack=packed_as(compression, dtype))
    with pytest.raises(ImageError, match=r"do not contain 4-bit|another size or depth"):
        decode(tiff(Page({**one.tags, 258: [bits] * 3}, one.parts)), max_pixels=10_000)


def test_a_missing_strip_is_an_error() -> None:
    for compression in (1, 8):
        whole = page(numbers(3, 8), photometric=RGB, compression=compression, rows=5)
        sparse = Page({**whole.tags, 273: Tagged(4, [8, 0, 8]), 279: Tagged(4, [50, 0, 50])}, whole.parts)
        assert "missing" in refused(tiff(sparse), "CorruptImage")


def test_missing_lengths_are_computed() -> None:
    raw = numbers(3, 8)
    np.testing.assert_array_equal(pixels(tiff(page(raw, photometric=RGB, rows=5, tags={279: None}))), raw)
    one_strip = page(raw, photometric=RGB, compression=5, tags={279: None})
    np.testing.assert_array_equal(pixels(tiff(one_strip)), raw)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"bits": 32}, "32-bit numbers"),
        ({"bits": 32, "tags": {339: 3}}, "32-bit floating-point numbers"),
        ({"bits": 16, "tags": {339: 3}}, "16-bit floating-point numbers"),
        ({"tags": {258: 24}}, "24-bit numbers"),
        ({"bits": 64}, "64-bit numbers"),
        ({"bits": 8, "tags": {339: 2}}, "8-bit signed numbers"),
        ({"bits": 16, "tags": {339: 2}}, "16-bit signed numbers"),
        ({"bits": 64, "tags": {339: 6}}, "64-bit complex numbers"),
        ({"samples": 5}, "5 bands that does not say which"),
        ({"samples": 3}, "3 bands that does not say which"),
        ({"samples": 5, "photometric": INKS, "tags": {332: 2}}, "5 inks that are not CMYK"),
        ({"samples": 3, "photometric": INKS}, "3 inks"),
        ({"samples": 2, "photometric": RGB}, "2 of 3 colours"),
        ({"samples": 3, "photometric": RGB, "tags": {258: [5, 6, 5]}}, "differ in depth (5, 6, 5 bits)"),
        ({"photometric": 4}, "a transparency mask"),
        ({"samples": 3, "photometric": 10}, "fax machines"),
        ({"photometric": 32844}, "high dynamic range"),
        ({"samples": 3, "photometric": 32845}, "high dynamic range"),
        ({"photometric": 51177}, "a depth map"),
        ({"photometric": 77}, "colours of kind 77"),
        ({"samples": 3, "photometric": YCBCR, "bits": 16}, "16-bit YCBCR"),
        *[
            ({"tags": {259: compression}}, f"{name} compression")
            for compression, name in {
                32809: "ThunderScan", 32766: "NeXT", 32909: "Pixar log", 34661: "JBIG", 34676: "SGI log",
                34677: "SGI log", 33003: "JPEG 2000 (Aperio", 34934: "JPEG XR", 9: "JBIG", 12345: "number 12345",
                34892: "lossy JPEG", 32771: "fax", 65000: "EER",
            }.items()
        ],
    ],
    ids=str,
)  # fmt: skip
def test_an_unsupported_kind_is_named(options: dict[str, Any], phrase: str) -> None:
    samples = options.pop("samples", 1)
    data = tiff(page(numbers(samples, 4), **options))
    message = refused(data, "UnsupportedImage")
    assert phrase.split(" compression")[0] in message
    assert message.startswith("cannot read a TIFF")


@pytest.mark.parametrize("order", "<>")
def test_a_giant_strip_of_many_bands_is_refused_before_allocation(order: str) -> None:
    tracemalloc.start()
    refused(
        tiff(page(np.zeros((4, 4, 60)), bits=16, extra=[0] * 59, tags={256: 1000, 257: 1000}), order=order),
        "UnsupportedImage",
    )
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_a_million_strips_are_refused() -> None:
    strips = {256: 1, 257: LIMIT, 278: 1, 273: Tagged(4, [8] * 9)}
    assert "of 1000000 strips or tiles" in refused(tiff(page(numbers(1, 8), tags=strips)), "UnsupportedImage")
