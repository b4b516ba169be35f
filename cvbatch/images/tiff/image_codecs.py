"""Parts of a TIFF that are pictures of another format themselves, to arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ImageError
from cvbatch.images.tiff.codecs import name_of
from cvbatch.images.tiff.directory import Directory, Tag

Samples: TypeAlias = npt.NDArray[Any]
Read = Callable[[ModuleType, bytes, Directory, Samples], None]


def read_picture(compression: int, packed: bytes, directory: Directory, wanted: Samples) -> None:
    """Decode one strip or tile that is a picture in itself.

    Args:
        compression: The tag's value; one of `IMAGE_CODECS`.
        packed: One strip or tile.
        directory: Of the whole picture.
        wanted: What is filled, (rows, columns, samples) of uint8 or uint16. A part of any other shape or type is
            refused by its header.

    Raises:
        ImageError: `CorruptImage` or `UnsupportedImage`.
    """
    import imagecodecs

    # These libraries know one sample as two dimensions.
    plain = wanted[..., 0] if wanted.shape[2] == 1 else wanted
    try:
        IMAGE_CODECS[compression](imagecodecs, packed, directory, plain)
    except RuntimeError as error:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its compressed pixels are damaged") from error
    except ValueError as error:
        reason = "its parts have another size or depth than it says"
        raise ImageError("UnsupportedImage", f"cannot read a TIFF with {name_of(compression)}: {reason}") from error


def _jpeg2000(library: ModuleType, packed: bytes, directory: Directory, wanted: Samples) -> None:
    library.jpeg2k_decode(packed, out=wanted)


def _webp(library: ModuleType, packed: bytes, directory: Directory, wanted: Samples) -> None:
    library.webp_decode(packed, out=wanted)


def _jpeg_xl(library: ModuleType, packed: bytes, directory: Directory, wanted: Samples) -> None:
    library.jpegxl_decode(packed, out=wanted)


def _png(library: ModuleType, packed: bytes, directory: Directory, wanted: Samples) -> None:
    library.png_decode(packed, out=wanted)


def _lerc(library: ModuleType, packed: bytes, directory: Directory, wanted: Samples) -> None:
    around = (*directory.numbers(Tag.LERC_PARAMETERS), 0, 0)[1]
    largest = wanted.nbytes * 2 + 4096
    if around == 1:
        packed = library.zlib_decode(packed, out=largest)
    elif around == 2:
        packed = library.zstd_decode(packed, out=largest)
    _, valid = library.lerc_decode(packed, masks=True, out=wanted)
    if valid is not None and not np.all(valid):
        raise ImageError("UnsupportedImage", "cannot read a TIFF with LERC compression that leaves out some pixels")


def _fax_lines(library: ModuleType, packed: bytes, directory: Directory, wanted: Samples) -> None:
    wanted[...] = library.ccittrle_decode(packed, wanted.shape[0], wanted.shape[1])


def _fax3(library: ModuleType, packed: bytes, directory: Directory, wanted: Samples) -> None:
    options = directory.number(Tag.T4_OPTIONS)
    wanted[...] = library.ccittfax3_decode(packed, wanted.shape[0], wanted.shape[1], t4options=options)


def _fax4(library: ModuleType, packed: bytes, directory: Directory, wanted: Samples) -> None:
    wanted[...] = library.ccittfax4_decode(packed, wanted.shape[0], wanted.shape[1])


FAX: Final = frozenset({2, 3, 4})
"""Compressions of pictures of one bit, which FillOrder counts for."""

IMAGE_CODECS: Final[Mapping[int, Read]] = {
    2: _fax_lines,
    3: _fax3,
    4: _fax4,
    33005: _jpeg2000,
    34712: _jpeg2000,
    34887: _lerc,
    34927: _webp,
    34933: _png,
    50001: _webp,
    50002: _jpeg_xl,
}
"""By the value of the tag Compression; JPEG is in `cvbatch.images.tiff.jpeg`."""
