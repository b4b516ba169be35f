"""PNG files: their samples come from Pillow's decoder, what they mean from the text of the format.

Samples of 16 bits are rounded to 8 (÷ 257), and what a file says is transparent is compared before that.
An animation is the picture that decoders without animations show.
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
"""No packed byte becomes more bytes."""
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
    facts = read_exif_metadata(tags) if options.exif else None
    return ReadResult(_png_to_rgb(chunks, profile), size, read_orientation(tags, chunks.xmp), facts)


def _png_to_rgb(chunks: PngChunks, profile: bytes | None) -> Image.Image:
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
    if chunks.colour_type == RGB and (clear := _transparent_samples(chunks)):
        image.info["transparency"] = clear
    return convert_to_rgb(image, profile)


def _inflate_samples(chunks: PngChunks, mode: str, raw_mode: str) -> Image.Image:
    """Samples as Pillow lays them out."""
    row = 1 + (chunks.width * chunks.bit_depth * CHANNEL_COUNTS[chunks.colour_type] + 7) // 8
    if sum(map(len, chunks.image_data)) * _MAX_DEFLATE_RATIO < chunks.height * row:
        raise ImageError("CorruptImage", "png cannot be decoded: there are not enough pixels (IDAT) for its size")
    packed, size = b"".join(chunks.image_data), (chunks.width, chunks.height)
    try:
        image = Image.frombytes(mode, size, packed, "zip", (raw_mode, int(chunks.is_interlaced)))
    except ValueError:
        raise _damaged_png_error() from None
    # counted only where rows may have been left zero, since that takes as long again
    last = image.crop((0, chunks.height - 1, chunks.width, chunks.height))
    if (chunks.is_interlaced or not any(last.tobytes())) and not has_all_rows(packed, chunks):
        raise _damaged_png_error()
    return image


def _damaged_png_error() -> ImageError:
    return ImageError("CorruptImage", "png cannot be decoded: its pixels (IDAT) are damaged, or too few")


def _transparent_samples(chunks: PngChunks) -> tuple[int, ...]:
    """The sample of each channel that together are transparent; empty if none are."""
    count = CHANNEL_COUNTS[chunks.colour_type]
    if chunks.transparency is None or len(chunks.transparency) != 2 * count:
        return ()
    mask = (1 << chunks.bit_depth) - 1
    return tuple(each & mask for each in np.frombuffer(chunks.transparency, ">u2").tolist())


def _build_colour_table(chunks: PngChunks) -> Image.Image:
    """The colour of each sample of a palette, or of a grey of up to 8 bits: 256 pixels in a row."""
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
        clear = np.frombuffer(chunks.transparency or b"", np.uint8)
        # like libpng: one for more entries than there are is void
        if len(clear) <= len(entries):
            alpha[: len(clear)] = clear
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
    """Colours, or grey with alpha, of 16 bits at 8 bits."""
    if chunks.colour_type == GREY_ALPHA:
        both = _inflate_samples(chunks, "RGBA", "RGBA")
        high, low = (Image.merge("LA", [both.getchannel(at), both.getchannel(at + 2)]) for at in (0, 1))
    else:
        mode = _PILLOW_MODES[chunks.colour_type]
        # Pillow drops the second byte of each sample; told that the file is little-endian, it drops the first
        high, low = (_inflate_samples(chunks, mode, f"{mode};16{order}") for order in "BL")
    clear = np.array(_transparent_samples(chunks) if chunks.colour_type == RGB else ())
    rows = max(1, _BAND_PIXELS // chunks.width)
    for top in range(0, chunks.height, rows):
        box = (0, top, chunks.width, min(top + rows, chunks.height))
        first, second = np.asarray(high.crop(box)), np.asarray(low.crop(box))
        band = _divide_by_257(first, second)
        if clear.size:
            band[((first == clear >> 8) & (second == clear & 255)).all(axis=2)] = 255
        high.paste(Image.fromarray(band, high.mode), box)
    return high


def _divide_by_257(high_bytes: npt.NDArray[np.uint8], low_bytes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Round 256 × first + second = 257 × first + (second − first), divided by 257."""
    rest = low_bytes.astype(np.int16) - high_bytes
    return high_bytes + (rest > 128).astype(np.uint8) - (rest < -128).astype(np.uint8)
