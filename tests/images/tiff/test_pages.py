"""The picture of a TIFF is never its thumbnail, whichever directory is first."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvbatch.images.decode import decode
from tests.images.tiff.test_reader import read, refused
from tests.images.tiff.writing import Page, Tagged, page, tiff

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
REDUCED, PAGE_OF_SEVERAL, MASK = 1, 2, 4
DNG = {50706: bytes([1, 4, 0, 0])}


def plain(colour: tuple[int, int, int], size: tuple[int, int], kind: int | None = None, **more: Any) -> Page:
    tags = more.pop("tags", {}) | ({} if kind is None else {254: kind})
    width, height = size
    return page(np.full((height, width, 3), colour), photometric=2, tags=tags, **more)


def sensor(size: tuple[int, int], kind: int = 0, *, photometric: int = 32803) -> Page:
    width, height = size
    return page(np.zeros((height, width)), bits=16, photometric=photometric, tags={254: kind})


def jpeg(colour: tuple[int, int, int], size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "JPEG", quality=95, subsampling=0)
    return stream.getvalue()


def preview(colour: tuple[int, int, int], size: tuple[int, int], kind: int | None = REDUCED) -> Page:
    """A JPEG as in NEF, ARW and PEF files; only the JPEG has its size."""
    return Page({254: kind, 259: 6}, [jpeg(colour, size)], is_jpeg=True)


def canon(colour: tuple[int, int, int], size: tuple[int, int]) -> Page:
    """The first directory of a CR2: a JPEG in a strip, without a tag that declares it a preview."""
    return Page({256: size[0], 257: size[1], 258: [8] * 3, 259: 6}, [jpeg(colour, size)])


def canon_sensor(size: tuple[int, int]) -> Page:
    """The last directory of a CR2: a lossless JPEG of two components side by side."""
    width, height = size
    header = bytes([0xFF, 0xC3, 0, 14, 14, *height.to_bytes(2, "big"), *(width // 2).to_bytes(2, "big"), 2, *bytes(6)])
    return Page({259: 6}, [b"\xff\xd8" + header + b"\xff\xda\0\2" + bytes(50) + b"\xff\xd9"])


def written(*pages: Page, **options: Any) -> bytes:
    is_canon = pages[0].tags.get(259) == 6 and not pages[0].is_jpeg and not options.get("big")
    return tiff(*pages, **options, mark=CANON if is_canon else b"")


def shown(data: bytes) -> tuple[tuple[int, int], tuple[int, ...]]:
    result = read(data)
    assert (result.width, result.height) == result.image.size
    middle = result.image.getpixel((result.width // 2, result.height // 2))
    assert isinstance(middle, tuple)
    return result.image.size, tuple(int(round(part / 255) * 255) for part in middle)


BIG, SMALL = (60, 40), (15, 10)
FULL: dict[str, tuple[Page, ...]] = {
    "one page": (plain(GREEN, BIG),),
    "pages": (plain(GREEN, BIG), plain(RED, BIG)),
    "pages that say so": (plain(GREEN, BIG, PAGE_OF_SEVERAL), plain(RED, BIG, PAGE_OF_SEVERAL)),
    "a small first page stays the first": (plain(GREEN, BIG), plain(RED, (90, 90))),
    "a pyramid below the picture": (plain(GREEN, BIG, 0, below=[plain(RED, SMALL, REDUCED)]),),
    "a pyramid that does not say so": (plain(GREEN, BIG, below=[plain(RED, SMALL)]),),
    "a pyramid in the chain": (plain(GREEN, BIG), plain(RED, (30, 20), REDUCED), plain(RED, SMALL, REDUCED)),
    "a thumbnail first, then the picture": (plain(RED, SMALL, REDUCED), plain(GREEN, BIG)),
    "a thumbnail first, the picture below": (plain(RED, SMALL, REDUCED, below=[plain(GREEN, BIG, 0)]),),
    "a thumbnail that does not say so, the picture below": (plain(RED, SMALL, below=[plain(GREEN, BIG)]),),
    "by the older tag": (plain(RED, SMALL, tags={255: 2}), plain(GREEN, BIG, tags={255: 1})),
    "a mask first": (plain(RED, BIG, MASK), plain(GREEN, BIG, 0)),
    "below the second": (plain(RED, SMALL, REDUCED), plain(RED, SMALL, REDUCED, below=[plain(GREEN, BIG, 0)])),
    "the larger of two below": (plain(RED, SMALL, 1, below=[plain(BLUE, (20, 20), 0), plain(GREEN, BIG, 0)]),),
    "a DNG of RGB": (plain(RED, SMALL, REDUCED, tags=DNG, below=[plain(GREEN, BIG, 0)]),),
    "a DNG with a full-size preview": (
        plain(RED, SMALL, REDUCED, tags=DNG, below=[sensor((64, 42)), plain(GREEN, BIG, REDUCED)]),
    ),
    "a NEF": (plain(RED, SMALL, 1, below=[preview(GREEN, BIG), sensor((62, 42))]), preview(BLUE, (30, 20))),
    "a PEF": (sensor((64, 42)), preview(RED, SMALL, None), preview(GREEN, BIG, None)),
    "a CR2": (canon(GREEN, BIG), preview(RED, SMALL, None), canon_sensor((66, 42))),
    "a JPEG as before 1995": (preview(GREEN, BIG, None),),
    "a raw photo with a full-size page": (sensor((64, 42)), plain(RED, SMALL, REDUCED), plain(GREEN, BIG, REDUCED)),
}
CANON = b"CR\2\0" + bytes(4)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pages", FULL.values(), ids=FULL)
def test_the_picture_is_the_full_one(pages: tuple[Page, ...], big: bool) -> None:
    for order in "<>":
        assert shown(written(*pages, order=order, big=big)) == (BIG, GREEN)


NONE: dict[str, tuple[tuple[Page, ...], str]] = {
    "only a thumbnail": ((plain(RED, SMALL, REDUCED),), "a reduced copy of a picture, 15 x 10"),
    "thumbnails": ((plain(RED, SMALL, REDUCED), plain(RED, SMALL, 3)), "a reduced copy"),
    "by the older tag": ((plain(RED, SMALL, tags={255: 2}),), "a reduced copy"),
    "only a mask": ((plain(RED, SMALL, MASK),), "only a mask"),
    "a DNG": (
        (plain(RED, SMALL, REDUCED, tags=DNG, below=[sensor(BIG)]),),
        "raw photo (DNG) of 60 x 40 with no full-size picture in it, only a preview of 15 x 10",
    ),
    "a DNG whose thumbnail does not say so": ((plain(RED, SMALL, tags=DNG, below=[sensor(BIG)]),), "(DNG) of 60 x 40"),
    "a linear DNG": ((plain(RED, SMALL, 1, tags=DNG, below=[sensor(BIG, photometric=34892)]),), "(DNG)"),
    "a DNG of a sensor alone": ((page(np.zeros((9, 9)), bits=16, photometric=32803, tags=DNG),), "(DNG) of 9 x 9"),
    "a NEF": (
        (plain(RED, SMALL, REDUCED, tags={271: Tagged(2, b"NIKON CORPORATION\0")}, below=[sensor(BIG)]),),
        "raw photo (NIKON) of 60 x 40",
    ),
    "an ARW": (
        (plain(RED, SMALL, 1, below=[sensor(BIG)]), preview(RED, (30, 20))),
        "of 60 x 40 with no full-size picture in it, only a preview of 30 x 20",
    ),
    "a CR2 of an old camera": (
        (canon(RED, (30, 20)), preview(RED, SMALL, None), canon_sensor((66, 42))),
        "raw photo (CR2) of 66 x 42",
    ),
    "a preview of half the size": (
        (plain(RED, SMALL, REDUCED, below=[plain(RED, (30, 20), REDUCED), sensor(BIG)]),),
        "only a preview of 30 x 20",
    ),
    "a preview beside a sensor in the chain": ((plain(RED, SMALL, REDUCED), sensor(BIG)), "of 60 x 40"),
}


@pytest.mark.parametrize(("pages", "phrase"), NONE.values(), ids=NONE)
def test_a_thumbnail_is_never_used_as_the_picture(pages: tuple[Page, ...], phrase: str) -> None:
    message = refused(written(*pages), "UnsupportedImage")
    assert phrase in message
    assert message.endswith(("provide the full picture as JPEG, PNG or TIFF", "export it as JPEG or TIFF"))


def test_a_subdirectory_inherits_the_orientation() -> None:
    turned = tiff(plain(RED, SMALL, REDUCED, tags={274: 6}, below=[plain(GREEN, BIG, 0)]))
    assert shown(turned)[0] == BIG[::-1]
    own = tiff(plain(RED, SMALL, REDUCED, tags={274: 6}, below=[plain(GREEN, BIG, 0, tags={274: 3})]))
    assert shown(own)[0] == BIG
    next_page = tiff(plain(RED, SMALL, REDUCED, tags={274: 6}), plain(GREEN, BIG))
    assert shown(next_page)[0] == BIG


LOOPS: dict[str, Callable[[bytes, int], int]] = {
    "to itself": lambda data, offset: 8,
    "outside": lambda data, offset: 1 << 30,
}


@pytest.mark.parametrize("where", LOOPS.values(), ids=LOOPS)
def test_endless_chains(where: Callable[[bytes, int], int]) -> None:
    data = bytearray(tiff(plain(RED, SMALL, REDUCED)))
    data[-4:] = where(data, 0).to_bytes(4, "little")
    refused(bytes(data), "UnsupportedImage")
    looped = tiff(plain(RED, SMALL, REDUCED, tags={330: Tagged(4, [8] * 40)}))
    refused(looped, "UnsupportedImage")


def test_the_pixel_limit_applies_to_the_picture() -> None:
    data = tiff(plain(RED, (100, 100), REDUCED, below=[plain(GREEN, SMALL, 0)]))
    assert decode(data, max_pixels=150).image.size == SMALL
    assert "60 x 40 = 2400" in refused(tiff(plain(RED, SMALL, 1), plain(GREEN, BIG)), "TooManyPixels", max_pixels=2399)
