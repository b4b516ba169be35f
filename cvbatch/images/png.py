"""Read PNGs: Pillow's decoder unpacks the samples, and this module interprets them by the format's specification.

Samples of 16 bits are divided by 257 and rounded to 8 bits, after the comparison with the transparent colour.
Of an animation, the default image is read.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.errors import ImageError
from cvbatch.images.colours import convert_to_rgb
from cvbatch.images.exif import parse_exif_block, read_exif_metadata, read_orientation
from cvbatch.images.formats import ImageFormat
from cvbatch.images.png_chunks import CHANNEL_COUNTS, GREY, GREY_ALPHA, PALETTE, RGB, PngChunks, read_png_chunks
from cvbatch.images.png_rows import has_all_rows
from cvbatch.images.reading import ReadOptions, ReadResult, check_pixel_count

_PILLOW_MODES: Final = {RGB: "RGB", GREY_ALPHA: "LA", 6: "RGBA"}
_MAX_DEFLATE_RATIO: Final = 1032
"""Most bytes that one packed byte can become."""
_BAND_PIXELS: Final = 1 << 20


def read_png(image_format: ImageFormat, data: bytes, options: ReadOptions) -> ReadResult:
    """Read a PNG; a `cvbatch.images.reading.FormatReader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    chunks = read_png_chunks(data)
    size = (chunks.width, chunks.height)
    check_pixel_count(*size, options.max_pixels)
    profile = chunks.icc_profile if options.icc else None
    tags = None if chunks.exif is None else parse_exif_block(chunks.exif)
    metadata = read_exif_metadata(tags) if options.exif else None
    return ReadResult(png_to_rgb(chunks, profile), size, read_orientation(tags, chunks.xmp), metadata)


def png_to_rgb(chunks: PngChunks, profile: bytes | None) -> Image.Image:
    """Unpack the picture of a file, and convert it to RGB.

    Args:
        chunks: Of the file.
        profile: ICC profile to convert the colours to sRGB with.

    Raises:
        ImageError: `CorruptImage`.
    """
    if chunks.colour_type == PALETTE or (chunks.colour_type == GREY and chunks.bit_depth <= 8):
        image = _inflate_samples(chunks, "P", f"P;{chunks.bit_depth}" if chunks.bit_depth < 8 else "P")
        image.putpalette(convert_to_rgb(_build_colour_table(chunks), profile).tobytes())
        return image.convert("RGB")
    if chunks.bit_depth == 16:
        return convert_to_rgb(
            _read_grey16_samples(chunks) if chunks.colour_type == GREY else _round_to_8_bits(chunks), profile
        )
    mode = _PILLOW_MODES[chunks.colour_type]
    image = _inflate_samples(chunks, mode, mode)
    if chunks.colour_type == RGB and (transparent := _transparent_samples(chunks)):
        image.info["transparency"] = transparent
    return convert_to_rgb(image, profile)


def _inflate_samples(chunks: PngChunks, mode: str, raw_mode: str) -> Image.Image:
    """Unpack the samples into a Pillow image, and check that they are complete."""
    row_bytes = 1 + (chunks.width * chunks.bit_depth * CHANNEL_COUNTS[chunks.colour_type] + 7) // 8
    if sum(map(len, chunks.image_data)) * _MAX_DEFLATE_RATIO < chunks.height * row_bytes:
        raise ImageError("CorruptImage", "png cannot be decoded: it has too few pixels (IDAT) for its size")
    packed, size = b"".join(chunks.image_data), (chunks.width, chunks.height)
    try:
        image = Image.frombytes(mode, size, packed, "zip", (raw_mode, int(chunks.is_interlaced)))
    except ValueError:
        raise damaged_png_error() from None
    # Count the rows only if some may have been left zero, because counting doubles the time.
    last_row = image.crop((0, chunks.height - 1, chunks.width, chunks.height))
    if (chunks.is_interlaced or not any(last_row.tobytes())) and not has_all_rows(packed, chunks):
        raise damaged_png_error()
    return image


def damaged_png_error() -> ImageError:
    """Return the error for a picture whose rows cannot be unpacked."""
    return ImageError("CorruptImage", "png cannot be decoded: its pixels (IDAT) are damaged, or too few")


def _transparent_samples(chunks: PngChunks) -> tuple[int, ...]:
    """Return the samples of the transparent colour, one per channel; empty if there is none."""
    count = CHANNEL_COUNTS[chunks.colour_type]
    if chunks.transparency is None or len(chunks.transparency) != 2 * count:
        return ()
    mask = (1 << chunks.bit_depth) - 1
    return tuple(sample & mask for sample in np.frombuffer(chunks.transparency, ">u2").tolist())


def _build_colour_table(chunks: PngChunks) -> Image.Image:
    """Build the colours of all sample values of a palette, or of grey of up to 8 bits, as an image of 256 x 1."""
    alpha = np.full(256, 255, np.uint8)
    if chunks.colour_type == GREY:
        steps = (1 << chunks.bit_depth) - 1
        colours = np.minimum(np.arange(256) * 255 // steps, 255).astype(np.uint8)[:, None]
        alpha[list(_transparent_samples(chunks))] = 0
    else:
        if chunks.palette is None:
            raise ImageError("CorruptImage", "png cannot be decoded: its palette (PLTE) is missing")
        colours = np.zeros((256, 3), np.uint8)
        entries = np.frombuffer(chunks.palette, np.uint8).reshape(-1, 3)
        colours[: len(entries)] = entries
        entry_alpha = np.frombuffer(chunks.transparency or b"", np.uint8)
        # Like libpng, ignore tRNS if it has more entries than the palette.
        if len(entry_alpha) <= len(entries):
            alpha[: len(entry_alpha)] = entry_alpha
    if (alpha < 255).any():
        colours = np.concatenate([colours, alpha[:, None]], axis=1)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[colours.shape[1]]
    return Image.frombytes(mode, (256, 1), colours.tobytes())


def _read_grey16_samples(chunks: PngChunks) -> Image.Image:
    image = _inflate_samples(chunks, "I;16", "I;16B")
    for value in _transparent_samples(chunks):
        image.info["transparency"] = value
    return image


def _round_to_8_bits(chunks: PngChunks) -> Image.Image:
    """Reduce colours, or grey with alpha, from 16 bits to 8 bits."""
    if chunks.colour_type == GREY_ALPHA:
        stored = _inflate_samples(chunks, "RGBA", "RGBA")
        high, low = (Image.merge("LA", [stored.getchannel(byte), stored.getchannel(byte + 2)]) for byte in (0, 1))
    else:
        mode = _PILLOW_MODES[chunks.colour_type]
        # Pillow drops the low byte of each sample; if told to read little-endian, it drops the high byte.
        high, low = (_inflate_samples(chunks, mode, f"{mode};16{order}") for order in "BL")
    transparent = np.array(_transparent_samples(chunks) if chunks.colour_type == RGB else ())
    band_rows = max(1, _BAND_PIXELS // chunks.width)
    for top in range(0, chunks.height, band_rows):
        box = (0, top, chunks.width, min(top + band_rows, chunks.height))
        high_bytes, low_bytes = np.asarray(high.crop(box)), np.asarray(low.crop(box))
        band = _divide_by_257(high_bytes, low_bytes)
        if transparent.size:
            band[((high_bytes == transparent >> 8) & (low_bytes == transparent & 255)).all(axis=2)] = 255
        high.paste(Image.fromarray(band, high.mode), box)
    return high


def _divide_by_257(high_bytes: npt.NDArray[np.uint8], low_bytes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Divide 256 × high + low = 257 × high + (low − high) by 257, rounded to nearest."""
    difference = low_bytes.astype(np.int16) - high_bytes
    return high_bytes + (difference > 128).astype(np.uint8) - (difference < -128).astype(np.uint8)
