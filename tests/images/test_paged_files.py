"""Pages are what Pillow's `seek` gives, each as an image file of its own that does not change with its neighbours."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pillow_heif
import pytest
import tifffile
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.byte_ranges import BLOCK_BYTES, HeldBytes
from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.decode import decode
from cvbatch.images.paged_files import PagedFile, PageNumbers, find_pages
from tests.images.tiff.test_pages import BIG, BLUE, GREEN, MASK, RED, REDUCED, SMALL, plain, sensor
from tests.images.tiff.writing import tiff

LIMIT: Final = 1000
COUNT: Final = 4
RANDOM: Final = np.random.default_rng(5)


def pictures(mode: str = "RGB", size: tuple[int, int] = (37, 23)) -> list[Image.Image]:
    pixels = [RANDOM.integers(0, 255, (size[1], size[0], 3), np.uint8) for _ in range(COUNT)]
    if mode == "I;16":
        return [Image.fromarray(image[..., 0].astype(np.uint16) * 200) for image in pixels]
    return [Image.fromarray(image).convert(mode) for image in pixels]


def patches() -> list[Image.Image]:
    """A patch on nothing that moves and changes its colour."""
    images = []
    for number in range(COUNT):
        pixels = np.zeros((30, 40, 4), np.uint8)
        pixels[number * 4 : number * 4 + 9, 6 * number : 6 * number + 12] = (250 - 40 * number, 40 * number, 99, 255)
        images.append(Image.fromarray(pixels))
    return images


def saved(images: list[Image.Image], kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    images[0].save(stream, kind, save_all=True, append_images=images[1:], **options)
    return stream.getvalue()


def in_heic() -> bytes:
    pillow_heif.register_heif_opener()
    return saved(pictures(size=(64, 48)), "HEIF")


def tiled(**options: Any) -> bytes:
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, bigtiff=True) as writer:
        for image in pictures(size=(100, 70)):
            writer.write(np.asarray(image), tile=(64, 64), photometric="rgb", **options)
    return stream.getvalue()


FILES: Final[dict[str, Callable[[], bytes]]] = {
    **{
        f"TIFF, {mode}, {packed}": lambda mode=mode, packed=packed: saved(pictures(mode), "TIFF", compression=packed)
        for mode in ("RGB", "L", "CMYK", "RGBA")
        for packed in (None, "tiff_lzw", "jpeg")
    },
    **{
        f"TIFF, {mode}": lambda mode=mode: saved(pictures(mode), "TIFF", compression="tiff_deflate")
        for mode in ("1", "P", "I;16")
    },
    "TIFF, fax": lambda: saved(pictures("1"), "TIFF", compression="group4"),
    "TIFF, strips": lambda: saved(pictures(size=(900, 300)), "TIFF", strip_size=9000),
    "BigTIFF, tiles": lambda: tiled(),
    "BigTIFF, tiles, packed": lambda: tiled(compression="deflate", predictor=True),
    **{f"GIF, disposal {way}": lambda way=way: saved(patches(), "GIF", disposal=way) for way in range(4)},
    **{f"APNG, {way}": lambda way=way: saved(patches(), "PNG", disposal=way, blend=1) for way in range(3)},
    "APNG, default image": lambda: saved(patches(), "PNG", default_image=True),
    "WebP": lambda: saved(patches(), "WEBP", lossless=True),
    "AVIF": lambda: saved(patches(), "AVIF"),
    "HEIC": in_heic,
}


@pytest.mark.parametrize("name", FILES)
def test_a_page_is_what_seek_gives(name: str) -> None:
    data = FILES[name]()
    paged = PagedFile(HeldBytes(data))
    with Image.open(io.BytesIO(data)) as image:
        count = getattr(image, "n_frames", 1)
        assert count >= COUNT
        found = find_pages(HeldBytes(data), LIMIT)
        assert (list(found.numbers), found.problem) == (list(range(1, count + 1)), None)
        for number in [*range(1, count + 1), 2]:
            image.seek(number - 1)
            image.load()
            wanted = np.asarray(convert_to_rgb(image.copy()))
            page = paged.encode_page(number)
            assert np.array_equal(np.asarray(pixels_of(page)), wanted), number
            assert list(find_pages(HeldBytes(page), LIMIT).numbers) == [1]
            assert found.page_bytes is None or len(page) <= found.page_bytes + 1000
    assert np.array_equal(np.asarray(pixels_of(paged.encode_page(1))), np.asarray(pixels_of(data)))


def pixels_of(data: bytes) -> Image.Image:
    return decode(data, max_pixels=10**7).image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP", "AVIF", "GIF", "TIFF", "HEIF"])
def test_files_of_one_picture_have_one_page(kind: str) -> None:
    pillow_heif.register_heif_opener()
    stream = io.BytesIO()
    pictures(size=(64, 48))[0].save(stream, kind)
    assert find_pages(HeldBytes(stream.getvalue()), LIMIT) == PageNumbers(range(1, 2))


def test_a_photo_of_a_phone_with_a_thumbnail_has_one_page() -> None:
    file = pillow_heif.from_pillow(pictures(size=(256, 192))[0])
    file[0].info["thumbnails"] = [64]
    stream = io.BytesIO()
    file.save(stream)
    read = Ranges(stream.getvalue())
    assert find_pages(read, LIMIT) == PageNumbers(range(1, 2))
    assert read.requests, "its items are counted"


class Ranges:
    """A file that notes what is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.requests: list[tuple[int, int]] = []

    def byte_size(self) -> int:
        return len(self.data)

    def read_range(self, start: int, length: int) -> bytes:
        self.requests.append((start, length))
        return self.data[start : start + length]


def test_pages_are_counted_and_read_without_the_rest_of_the_file() -> None:
    data = saved(pictures(size=(700, 500)), "TIFF")
    file = Ranges(data)
    assert list(find_pages(file, LIMIT).numbers) == [1, 2, 3, 4]
    assert sum(length for _, length in file.requests) <= 5 * BLOCK_BYTES < len(data) / 4
    file = Ranges(data)
    page = PagedFile(file).encode_page(3)
    assert len(page) < len(data) / 3
    assert sum(length for _, length in file.requests) < len(page) + 4 * BLOCK_BYTES


TIFFS: Final[dict[str, tuple[bytes, tuple[int, ...]]]] = {
    "a pyramid in the chain": (tiff(plain(GREEN, BIG), plain(RED, SMALL, REDUCED), plain(RED, SMALL, REDUCED)), (1,)),
    "a pyramid below each page": (
        tiff(plain(GREEN, BIG, 0, below=[plain(RED, SMALL, 1)]), plain(BLUE, BIG, 0, below=[plain(RED, SMALL, 1)])),
        (1, 2),
    ),
    "thumbnails and masks between": (
        tiff(plain(GREEN, BIG), plain(RED, SMALL, REDUCED), plain(BLUE, BIG), plain(RED, BIG, MASK), plain(GREEN, BIG)),
        (1, 3, 5),
    ),
    "only a thumbnail": (tiff(plain(RED, SMALL, REDUCED)), (1,)),
    "a raw photo": (tiff(plain(RED, SMALL), sensor(BIG), plain(GREEN, BIG)), (1,)),
}


@pytest.mark.parametrize("name", TIFFS)
def test_reduced_copies_masks_and_raw_photos_are_no_pages(name: str) -> None:
    data, numbers = TIFFS[name]
    assert tuple(find_pages(HeldBytes(data), LIMIT).numbers) == numbers


def test_the_number_of_a_page_is_its_place_in_the_chain() -> None:
    data, _ = TIFFS["thumbnails and masks between"]
    assert pixels_of(PagedFile(HeldBytes(data)).encode_page(3)).getpixel((5, 5)) == BLUE


@pytest.mark.parametrize("name", ["TIFF, RGB, tiff_lzw", "TIFF, strips", "BigTIFF, tiles", "GIF, disposal 1"])
def test_a_page_stays_the_same_bytes_when_others_come(name: str) -> None:
    images = pictures()
    kind = "GIF" if name.startswith("GIF") else "TIFF"
    options: dict[str, Any] = {"compression": "tiff_lzw"} if "lzw" in name else {}
    before, after = (PagedFile(HeldBytes(saved(images[:count], kind, **options))) for count in (2, 4))
    assert [before.encode_page(number) for number in (1, 2)] == [after.encode_page(number) for number in (1, 2)]


def test_a_page_keeps_its_exif_values_and_profile() -> None:
    images = pictures()
    tags = Image.Exif()
    tags[0x010F], tags[0x0110] = "Canon", "EOS"
    tags[0x8769] = {0x9003: "2020:01:02 03:04:05"}
    tags[0x8825] = {1: "S", 2: (10.0, 30.0, 0.0), 3: "E", 4: (20.0, 0.0, 0.0)}
    stored, stream = Image.Exif(), io.BytesIO()
    stored.load(tags.tobytes())
    images[0].save(stream, "TIFF", exif=stored, icc_profile=b"profile" * 20, save_all=True, append_images=images[1:])
    page = PagedFile(HeldBytes(stream.getvalue())).encode_page(1)
    exif = decode(page, max_pixels=10**6, exif=True).exif
    assert exif == decode(stream.getvalue(), max_pixels=10**6, exif=True).exif
    assert exif is not None
    assert (exif.latitude, exif.camera, str(exif.captured_at)) == (-10.5, "Canon EOS", "2020-01-02 03:04:05")
    with Image.open(io.BytesIO(page)) as image:
        assert image.info["icc_profile"] == b"profile" * 20


def test_frames_are_turned_as_the_file_says() -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    data = saved(patches(), "WEBP", lossless=True, exif=tags)
    page = decode(PagedFile(HeldBytes(data)).encode_page(2), max_pixels=10**6)
    assert (page.width, page.height) == (30, 40)


DAMAGED: Final = {
    "a TIFF that ends within its last page": lambda: saved(pictures(size=(300, 200)), "TIFF")[:-100_000],
    "a GIF that ends within a frame": lambda: saved(pictures(size=(300, 200)), "GIF")[:-2000],
    "a WebP that ends within a frame": lambda: saved(pictures(size=(300, 200)), "WEBP")[:-2000],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_costs_only_the_pages_that_have_it(name: str) -> None:
    data = DAMAGED[name]()
    found = find_pages(HeldBytes(data), LIMIT)
    results = [outcome(data, number) for number in found.numbers]
    assert list(found.numbers[:2]) == [1, 2]
    if not name.startswith("a WebP"):  # libwebp reads no frame of a file that is too short
        assert results[:2] == ["read", "read"]
    assert found.problem is not None or set(results[2:]) & {"TruncatedImage", "CorruptImage"}


def outcome(data: bytes, number: int) -> str:
    try:
        pixels_of(PagedFile(HeldBytes(data)).encode_page(number))
    except ImageError as error:
        return error.kind
    return "read"


def test_a_chain_that_leads_back_ends() -> None:
    data = bytearray(tiff(plain(GREEN, BIG), plain(RED, BIG)))
    first = int.from_bytes(data[4:8], "little")
    tags = int.from_bytes(data[first : first + 2], "little")
    position = first + 2 + 12 * tags
    data[position : position + 4] = first.to_bytes(4, "little")
    assert find_pages(HeldBytes(bytes(data)), LIMIT) == PageNumbers(range(1, 2))


def test_counting_ends_at_the_limit() -> None:
    frame = saved([Image.new("L", (1, 1))], "GIF")
    start = frame.index(b",")
    many = frame[:start] + frame[start:-1] * 100_000 + b";"
    assert len(find_pages(HeldBytes(many), LIMIT).numbers) == LIMIT + 1


def test_a_page_that_is_not_there_any_more_has_a_name() -> None:
    for kind in ("TIFF", "GIF"):
        assert outcome(saved(pictures(), kind), COUNT + 1) == "NoSuchPage"


def test_a_page_never_has_more_bytes_than_its_file_allows() -> None:
    data = tifffile_with_blocks(20_000)
    assert outcome(data, 1) in {"CorruptImage", "TruncatedImage"}


def tifffile_with_blocks(count: int) -> bytes:
    """Strips that overlap: each begins one byte after the one before, and all of them are as long as the file."""
    stream = io.BytesIO()
    tifffile.imwrite(
        stream, np.zeros((count, 2), np.uint8), rowsperstrip=1, compression="zlib", photometric="minisblack"
    )
    data = bytearray(stream.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        offsets, lengths = (file.pages[0].tags[tag] for tag in (273, 279))
        order = file.byteorder
    for tag, values in (
        (offsets, [8 + index for index in range(count)]),
        (lengths, [len(data) - count - 8] * count),
    ):
        width = 4 if tag.dtype == 4 else 2
        for index, value in enumerate(values):
            place = tag.valueoffset + index * width
            data[place : place + width] = value.to_bytes(4, "little" if order == "<" else "big")[:width]
    return bytes(data)
