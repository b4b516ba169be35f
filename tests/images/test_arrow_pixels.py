"""Images travel as flat columns and come back as views of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.images.arrow_pixels import RgbArray, pack_images, unpack_images

SHAPES = [(3, 4), None, (1, 1), (5, 2), None, (3, 4)]


def image(number: int, height: int, width: int) -> RgbArray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


IMAGES = [shape and image(number, *shape) for number, shape in enumerate(SHAPES)]


def same(images: list[RgbArray | None], expected: list[RgbArray | None]) -> bool:
    pairs = list(zip(images, expected, strict=True))
    return all(
        (image is None) == (wanted is None) and np.array_equal(image, wanted)
        for image, wanted in pairs
        if wanted is not None
    )


def sent(table: pa.Table) -> pa.Table:
    """As Ray sends a block."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return pa.ipc.open_stream(sink.getvalue()).read_all()


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda table: table, [0, 1, 2, 3, 4, 5]),
        (sent, [0, 1, 2, 3, 4, 5]),
        (lambda table: table.slice(1, 3), [1, 2, 3]),
        (lambda table: sent(table.slice(2)), [2, 3, 4, 5]),
        (lambda table: table.filter(pa.array([True, False, False, True, True, True])), [0, 3, 4, 5]),
        (lambda table: table.filter(pa.array([False, True] + [False] * 4)), [1]),
        (lambda table: table.slice(0, 0), []),
        (lambda table: pa.concat_tables([table.slice(4), table.slice(0, 2)]), [4, 5, 0, 1]),
        (lambda table: pa.concat_tables([table, table]).combine_chunks(), [*range(6), *range(6)]),
    ],
    ids=["whole", "sent", "slice", "sent slice", "filter", "only absent", "empty", "chunks", "combined"],
)
def test_packed_images_are_unpacked(change: Callable[[pa.Table], pa.Table], rows: list[int]) -> None:
    table = change(pa.table({"pixels": pack_images(IMAGES)}))
    assert same(unpack_images(table["pixels"]), [IMAGES[row] for row in rows])
    assert table["pixels"].null_count == sum(IMAGES[row] is None for row in rows)


@pytest.mark.parametrize("images", [[], [None], [None, None]])
def test_no_images(images: list[RgbArray | None]) -> None:
    assert unpack_images(pa.table({"pixels": pack_images(images)})["pixels"]) == images


def test_unpacked_images_are_read_only_views_of_one_buffer() -> None:
    column = pa.chunked_array([pack_images([image(1, 2, 3), image(2, 2, 3)])])
    first, second = unpack_images(column)
    assert first is not None
    assert second is not None
    assert not first.flags.writeable
    assert not first.flags.owndata
    assert first.flags.c_contiguous
    assert second.ctypes.data - first.ctypes.data == first.nbytes, "equal shapes can be taken as one array"


def test_column_type() -> None:
    assert pack_images(IMAGES).type == pa.struct(
        [("pixels", pa.large_binary()), ("height", pa.int32()), ("width", pa.int32())]
    )
