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
from cvbatch.images.colours import to_rgb
from cvbatch.images.exif import orientation, read_facts, tags_of
from cvbatch.images.formats import Format
from cvbatch.images.png_chunks import CHANNELS, GREY, GREY_ALPHA, PALETTE, RGB, Chunks, read_chunks
from cvbatch.images.png_rows import has_all_rows
from cvbatch.images.reading import Picture, ReadOptions, check_pixels

_MODES: Final = {RGB: "RGB", GREY_ALPHA: "LA", 6: "RGBA"}
_DEFLATE_RATIO: Final = 1032
"""No packed byte becomes more bytes."""
_BAND_PIXELS: Final = 1 << 20


def read_png(kind: Format, data: bytes, options: ReadOptions) -> Picture:
    """Read a PNG; a `cvbatch.images.reading.Reader`.

    Raises:
        ImageError: `TooManyPixels`, `TruncatedImage`, `CorruptImage` or `UnsupportedImage`.
    """
    chunks = read_chunks(data)
    size = (chunks.width, chunks.height)
    check_pixels(*size, options.max_pixels)
    profile = chunks.profile if options.icc else None
    tags = None if chunks.exif is None else tags_of(chunks.exif)
    facts = read_facts(tags) if options.exif else None
    return Picture(_rgb(chunks, profile), size, orientation(tags, chunks.xmp), facts)


def _rgb(chunks: Chunks, profile: bytes | None) -> Image.Image:
    if chunks.colour == PALETTE or (chunks.colour == GREY and chunks.bits <= 8):
        image = _unpacked(chunks, "P", f"P;{chunks.bits}" if chunks.bits < 8 else "P")
        image.putpalette(to_rgb(_colours(chunks), profile).tobytes())
        return image.convert("RGB")
    if chunks.bits == 16:
        return to_rgb(_grey16(chunks) if chunks.colour == GREY else _rounded(chunks), profile)
    mode = _MODES[chunks.colour]
    image = _unpacked(chunks, mode, mode)
    if chunks.colour == RGB and (clear := _clear(chunks)):
        image.info["transparency"] = clear
    return to_rgb(image, profile)


def _unpacked(chunks: Chunks, mode: str, raw: str) -> Image.Image:
    """Samples as Pillow lays them out."""
    row = 1 + (chunks.width * chunks.bits * CHANNELS[chunks.colour] + 7) // 8
    if sum(map(len, chunks.pixels)) * _DEFLATE_RATIO < chunks.height * row:
        raise ImageError("CorruptImage", "png cannot be decoded: there are not enough pixels (IDAT) for its size")
    packed, size = b"".join(chunks.pixels), (chunks.width, chunks.height)
    try:
        image = Image.frombytes(mode, size, packed, "zip", (raw, int(chunks.interlaced)))
    except ValueError:
        raise _damaged() from None
    # counted only where rows may have been left zero, since that takes as long again
    last = image.crop((0, chunks.height - 1, chunks.width, chunks.height))
    if (chunks.interlaced or not any(last.tobytes())) and not has_all_rows(packed, chunks):
        raise _damaged()
    return image


def _damaged() -> ImageError:
    return ImageError("CorruptImage", "png cannot be decoded: its pixels (IDAT) are damaged, or too few")


def _clear(chunks: Chunks) -> tuple[int, ...]:
    """The sample of each channel that together are transparent; empty if none are."""
    count = CHANNELS[chunks.colour]
    if chunks.transparency is None or len(chunks.transparency) != 2 * count:
        return ()
    mask = (1 << chunks.bits) - 1
    return tuple(each & mask for each in np.frombuffer(chunks.transparency, ">u2").tolist())


def _colours(chunks: Chunks) -> Image.Image:
    """The colour of each sample of a palette, or of a grey of up to 8 bits: 256 pixels in a row."""
    alpha = np.full(256, 255, np.uint8)
    if chunks.colour == GREY:
        steps = (1 << chunks.bits) - 1
        colours = np.minimum(np.arange(256) * 255 // steps, 255).astype(np.uint8)[:, None]
        alpha[list(_clear(chunks))] = 0
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


def _grey16(chunks: Chunks) -> Image.Image:
    image = _unpacked(chunks, "I;16", "I;16B")
    for value in _clear(chunks):
        image.info["transparency"] = value
    return image


def _rounded(chunks: Chunks) -> Image.Image:
    """Colours, or grey with alpha, of 16 bits at 8 bits."""
    if chunks.colour == GREY_ALPHA:
        both = _unpacked(chunks, "RGBA", "RGBA")
        high, low = (Image.merge("LA", [both.getchannel(at), both.getchannel(at + 2)]) for at in (0, 1))
    else:
        mode = _MODES[chunks.colour]
        # Pillow drops the second byte of each sample; told that the file is little-endian, it drops the first
        high, low = (_unpacked(chunks, mode, f"{mode};16{order}") for order in "BL")
    clear = np.array(_clear(chunks) if chunks.colour == RGB else ())
    rows = max(1, _BAND_PIXELS // chunks.width)
    for top in range(0, chunks.height, rows):
        box = (0, top, chunks.width, min(top + rows, chunks.height))
        first, second = np.asarray(high.crop(box)), np.asarray(low.crop(box))
        band = _divided(first, second)
        if clear.size:
            band[((first == clear >> 8) & (second == clear & 255)).all(axis=2)] = 255
        high.paste(Image.fromarray(band, high.mode), box)
    return high


def _divided(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Round 256 × first + second = 257 × first + (second − first), divided by 257."""
    rest = second.astype(np.int16) - first
    return first + (rest > 128).astype(np.uint8) - (rest < -128).astype(np.uint8)
