"""Decompress strips and tiles of a TIFF to bytes: all bytes, or an error."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Final

from cvbatch.errors import ImageError

ByteDecoder = Callable[[ModuleType, bytes, int], bytes]
_DRAIN_CHUNK_BYTES: Final = 1 << 20
_MAX_DRAIN_CHUNKS: Final = 64
"""Limit of surplus data that is unpacked for its checksum, so that a decompression bomb costs little time."""


def decompress_block(compression: int, packed: bytes, size: int) -> bytes:
    """Decompress one strip or tile with a general-purpose compression.

    Args:
        compression: Value of the tag Compression; one of `BYTE_CODECS`.
        packed: One strip or tile.
        size: Expected bytes; surplus bytes are ignored.

    Raises:
        ImageError: `CorruptImage`, if there are fewer bytes; `UnsupportedImage`, for LZW of before TIFF 6.0.
    """
    import imagecodecs  # takes some 20 ms, so only TIFFs import it

    try:
        plain = BYTE_CODECS[compression](imagecodecs, packed, size)
    except (RuntimeError, ValueError, zlib.error) as error:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its compressed pixels are damaged") from error
    if len(plain) < size:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its compressed pixels end too early")
    return plain


def _decode_lzw_block(library: ModuleType, packed: bytes, size: int) -> bytes:
    if packed[:1] == b"\0" and len(packed) > 1 and packed[1] & 1:
        raise ImageError("UnsupportedImage", "cannot read LZW compression of before TIFF 6.0; save it again")
    return bytes(library.lzw_decode(packed, out=size))


def _decode_deflate_block(library: ModuleType, packed: bytes, size: int) -> bytes:
    try:
        return bytes(library.deflate_decode(packed, out=size))
    except RuntimeError:
        # It fails on surplus bytes, which some writers pack.
        decompressor = zlib.decompressobj()
        plain = decompressor.decompress(packed, size)
        # Unpack and drop them, to verify the checksum, which comes last.
        for _ in range(_MAX_DRAIN_CHUNKS):
            if not decompressor.unconsumed_tail:
                break
            decompressor.decompress(decompressor.unconsumed_tail, _DRAIN_CHUNK_BYTES)
        return plain


def _decode_zstd_block(library: ModuleType, packed: bytes, size: int) -> bytes:
    return bytes(library.zstd_decode(packed, out=size))


def _decode_lzma_block(library: ModuleType, packed: bytes, size: int) -> bytes:
    return bytes(library.lzma_decode(packed, out=size))


def _decode_packbits_block(library: ModuleType, packed: bytes, size: int) -> bytes:
    # Two bytes unpack to at most 128, so the size is bounded; a writer may have padded the end.
    return bytes(library.packbits_decode(packed, out=max(size, len(packed) * 64)))


def _return_uncompressed(library: ModuleType, packed: bytes, size: int) -> bytes:
    return packed


BYTE_CODECS: Final[Mapping[int, ByteDecoder]] = {
    1: _return_uncompressed,
    5: _decode_lzw_block,
    8: _decode_deflate_block,
    32946: _decode_deflate_block,
    32773: _decode_packbits_block,
    34925: _decode_lzma_block,
    34926: _decode_zstd_block,
    50000: _decode_zstd_block,
}
"""Decoders by value of the tag Compression."""

_REVERSED_BYTES: Final = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))


def reverse_bit_order(packed: bytes) -> bytes:
    """Reverse the bits of each byte, for FillOrder 2."""
    return packed.translate(_REVERSED_BYTES)


COMPRESSION_NAMES: Final[Mapping[int, str]] = {
    2: "fax",
    3: "fax (group 3)",
    4: "fax (group 4)",
    6: "JPEG (as before 1995)",
    7: "JPEG",
    9: "JBIG",
    10: "JBIG",
    32766: "NeXT 2-bit",
    32771: "fax",
    32809: "ThunderScan",
    32867: "Kodak KDC",
    32895: "Pixar film",
    32908: "Pixar film",
    32909: "Pixar log",
    33003: "JPEG 2000 (Aperio, luma and chroma)",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34661: "JBIG",
    34676: "SGI log",
    34677: "SGI log",
    34712: "JPEG 2000",
    34713: "Nikon raw",
    34887: "LERC",
    34892: "lossy JPEG of raw photos",
    34927: "WebP",
    34933: "PNG",
    34934: "JPEG XR",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL of raw photos",
    65000: "EER",
    65535: "Pentax raw",
}
"""Common names of compressions; see `describe_compression`."""


def describe_compression(compression: int) -> str:
    """Return the name of a compression for a message."""
    return COMPRESSION_NAMES.get(compression, f"number {compression}") + " compression"
