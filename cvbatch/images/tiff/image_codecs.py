"""Decode strips and tiles that are compressed by an image format, to arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.tiff.codecs import describe_compression
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag

SampleArray: TypeAlias = npt.NDArray[Any]
ImageDecoder = Callable[[ModuleType, bytes, TiffDirectory, SampleArray], None]


def decode_image_block(compression: int, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    """Decode one strip or tile that is compressed by an image format.

    Args:
        compression: Value of the tag Compression; one of `IMAGE_CODECS`.
        packed: One strip or tile.
        directory: Directory of the picture.
        target: Array to fill, (rows, columns, samples) of uint8 or uint16. A part whose header has another shape or
            type is refused.

    Raises:
        ImageError: `CorruptImage` or `UnsupportedImage`.
    """
    import imagecodecs

    # These libraries return one sample per pixel as two dimensions.
    array = target[..., 0] if target.shape[2] == 1 else target
    try:
        IMAGE_CODECS[compression](imagecodecs, packed, directory, array)
    except RuntimeError as error:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its compressed pixels are damaged") from error
    except ValueError as error:
        reason = "its strips or tiles have another size or depth than it declares"
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF with {describe_compression(compression)}: {reason}"
        ) from error


def _decode_jpeg2000_block(library: ModuleType, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    library.jpeg2k_decode(packed, out=target)


def _decode_webp_block(library: ModuleType, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    library.webp_decode(packed, out=target)


def _decode_jpeg_xl_block(library: ModuleType, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    library.jpegxl_decode(packed, out=target)


def _decode_png_block(library: ModuleType, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    library.png_decode(packed, out=target)


def _decode_lerc_block(library: ModuleType, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    outer_compression = (*directory.get_integers(TiffTag.LERC_PARAMETERS), 0, 0)[1]
    max_bytes = target.nbytes * 2 + 4096
    if outer_compression == 1:
        packed = library.zlib_decode(packed, out=max_bytes)
    elif outer_compression == 2:
        packed = library.zstd_decode(packed, out=max_bytes)
    _, valid_mask = library.lerc_decode(packed, masks=True, out=target)
    if valid_mask is not None and not np.all(valid_mask):
        raise ImageError("UnsupportedImage", "cannot read a TIFF with LERC compression that leaves out some pixels")


def _decode_fax_rle_block(library: ModuleType, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    target[...] = library.ccittrle_decode(packed, target.shape[0], target.shape[1])


def _decode_fax_group3_block(library: ModuleType, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    options = directory.get_integer(TiffTag.T4_OPTIONS)
    target[...] = library.ccittfax3_decode(packed, target.shape[0], target.shape[1], t4options=options)


def _decode_fax_group4_block(library: ModuleType, packed: bytes, directory: TiffDirectory, target: SampleArray) -> None:
    target[...] = library.ccittfax4_decode(packed, target.shape[0], target.shape[1])


FAX_COMPRESSIONS: Final = frozenset({2, 3, 4})
"""Compressions of one-bit pictures, to which FillOrder applies."""

IMAGE_CODECS: Final[Mapping[int, ImageDecoder]] = {
    2: _decode_fax_rle_block,
    3: _decode_fax_group3_block,
    4: _decode_fax_group4_block,
    33005: _decode_jpeg2000_block,
    34712: _decode_jpeg2000_block,
    34887: _decode_lerc_block,
    34927: _decode_webp_block,
    34933: _decode_png_block,
    50001: _decode_webp_block,
    50002: _decode_jpeg_xl_block,
}
"""Decoders by value of the tag Compression; JPEG is in `cvbatch.images.tiff.jpeg`."""
