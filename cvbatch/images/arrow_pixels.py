"""Pack pixels for the next stage: flat uint8 columns that are views of one buffer, never lists of objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.schema import HEIGHT, WIDTH

RgbArray = npt.NDArray[np.uint8]
"""uint8 (height, width, 3), RGB."""


def pack_images(images: Sequence[RgbArray | None]) -> pa.StructArray:
    """Pack images into one Arrow column. Each image is copied once.

    Args:
        images: uint8 (h, w, 3) arrays of any sizes; None for a missing image.

    Returns:
        Struct of `pixels` (large_binary), `height` and `width` (int32); null for a missing image.
    """
    sizes = np.array([0 if image is None else image.nbytes for image in images], dtype=np.int64)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    flat = np.empty(offsets[-1], dtype=np.uint8)
    for image, start, end in zip(images, offsets[:-1], offsets[1:], strict=True):
        if image is not None:
            flat[start:end] = image.reshape(-1)
    pixels = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(images), [None, pa.py_buffer(offsets), pa.py_buffer(flat)]
    )
    shapes = [(0, 0) if image is None else image.shape[:2] for image in images]
    heights, widths = (pa.array([shape[axis] for shape in shapes], pa.int32()) for axis in (0, 1))
    is_missing = pa.array([image is None for image in images], pa.bool_())
    return pa.StructArray.from_arrays([pixels, heights, widths], names=["pixels", HEIGHT, WIDTH], mask=is_missing)


def pack_tiles(images: Sequence[Sequence[RgbArray] | None]) -> pa.ListArray:
    """Pack the tiles of images into one Arrow column.

    Args:
        images: The tiles of each image; None for a missing image.

    Returns:
        Lists of what `pack_images` makes; null for a missing image.
    """
    counts = np.array([0 if tiles is None else len(tiles) for tiles in images], np.int32)
    offsets = np.concatenate((np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)))
    is_missing = pa.array([tiles is None for tiles in images], pa.bool_())
    packed = pack_images([tile for tiles in images for tile in tiles or ()])
    return pa.ListArray.from_arrays(pa.array(offsets), packed, mask=is_missing)


def unpack_tiles(column: pa.ChunkedArray) -> list[list[RgbArray] | None]:
    """Return the tiles of the images of a column of `pack_tiles`, as read-only views of its buffer."""
    images: list[list[RgbArray] | None] = []
    for chunk in column.chunks:
        tiles = [tile for tile in unpack_images(pa.chunked_array([chunk.flatten()])) if tile is not None]
        ends = np.cumsum(chunk.value_lengths().fill_null(0).to_numpy())
        is_present = chunk.is_valid().to_numpy(zero_copy_only=False)
        for has_image, start, end in zip(is_present, [0, *ends], ends, strict=False):
            images.append(tiles[start:end] if has_image else None)
    return images


def unpack_images(column: pa.ChunkedArray) -> list[RgbArray | None]:
    """Return the images of a packed column as read-only views of its buffer."""
    images: list[RgbArray | None] = []
    for chunk in column.chunks:
        is_present = chunk.is_valid().to_numpy(zero_copy_only=False)
        pixels = chunk.field("pixels")
        offsets = np.frombuffer(pixels.buffers()[1], dtype=np.int64)[pixels.offset : pixels.offset + len(pixels) + 1]
        flat = np.frombuffer(pixels.buffers()[2] or b"", dtype=np.uint8)
        flat.flags.writeable = False
        heights, widths = (chunk.field(name).to_numpy() for name in (HEIGHT, WIDTH))
        images.extend(
            flat[start:end].reshape(height, width, 3) if has_image else None
            for has_image, start, end, height, width in zip(
                is_present, offsets[:-1], offsets[1:], heights, widths, strict=True
            )
        )
    return images
