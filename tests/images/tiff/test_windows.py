"""Parts of a TIFF are read without the rest; `test_reader.read` compares them with the whole in all tests of TIFFs."""

from __future__ import annotations

import io
import tracemalloc
from typing import Any, Final

import numpy as np
import pytest
import tifffile

from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from cvbatch.images.tiff import windows
from cvbatch.images.tiff.samples import BlockReader
from cvbatch.images.windows import open_windows

SIDE: Final = 2000
LAYOUTS: Final[dict[str, dict[str, Any]]] = {
    "plain, one strip": {"rowsperstrip": SIDE},
    "plain, strips": {"rowsperstrip": 300},
    "plain, planes": {"rowsperstrip": SIDE, "planarconfig": "separate"},
    "plain, tiles": {"tile": (256, 256)},
    "LZW, tiles": {"tile": (256, 256), "compression": "lzw", "predictor": True},
    "Deflate, tiles": {"tile": (256, 256), "compression": "zlib"},
    "Deflate, strips": {"rowsperstrip": 64, "compression": "zlib"},
    "JPEG, tiles": {"tile": (256, 256), "compression": "jpeg"},
}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.stack((rows // 8, columns // 8, (rows ^ columns) // 8), axis=2).astype(np.uint8)


def written(picture: np.ndarray, options: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    if options.get("planarconfig") == "separate":
        picture = np.ascontiguousarray(picture.transpose(2, 0, 1))
    tifffile.imwrite(stream, picture, photometric="rgb", **options)
    return stream.getvalue()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_part_costs_only_itself(name: str, picture: np.ndarray) -> None:
    data = written(picture, LAYOUTS[name])
    whole = np.asarray(decode(data, max_pixels=SIDE * SIDE).image)
    tracemalloc.start()
    try:
        reader = open_windows(data, max_pixels=SIDE * SIDE)
        part = reader.read(700, 900, 200, 300)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(part, whole[700:900, 900:1200])
    assert not reader.is_whole_in_memory
    assert peak < picture.nbytes / 3


@pytest.mark.parametrize("name", ["LZW, tiles", "Deflate, strips"])
def test_parts_that_overlap_unpack_a_tile_once(name: str, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    data = written(picture[:900, :900], LAYOUTS[name])
    read: list[tuple[int, int]] = []
    read_block = BlockReader.read_block
    monkeypatch.setattr(
        BlockReader,
        "read_block",
        lambda self, block: (read.append((block.top, block.left)), read_block(self, block))[1],
    )
    reader = open_windows(data, max_pixels=SIDE * SIDE)
    for top in range(0, 800, 100):
        for left in range(0, 800, 100):
            reader.read(top, left, 200, 200)
    assert read, "the blocks are counted"
    assert len(read) == len(set(read))


def test_unpacked_tiles_are_let_go(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_CACHE_BYTES", 3 * 256 * 256 * 4)
    data = written(picture, LAYOUTS["LZW, tiles"])
    reader = open_windows(data, max_pixels=SIDE * SIDE)
    tracemalloc.start()
    try:
        for top in range(0, SIDE, 100):
            reader.read(top, 0, 100, SIDE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < picture.nbytes / 3


def test_one_packed_strip_is_decoded_as_a_whole(picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_MAX_BLOCK_BYTES", 1 << 20)
    data = written(picture, {"rowsperstrip": SIDE, "compression": "zlib"})
    reader = open_windows(data, max_pixels=SIDE * SIDE)
    assert reader.is_whole_in_memory
    np.testing.assert_array_equal(reader.read(5, 6, 7, 8), picture[5:12, 6:14])


def test_too_many_pixels_are_refused(picture: np.ndarray) -> None:
    with pytest.raises(ImageError, match="more than 1000"):
        open_windows(written(picture, {}), max_pixels=1000)
