"""Small files of every format, and random mutations of them."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from PIL import ExifTags, Image

from tests.images import profiles
from tests.images.pngs import chunk, png

_WIDTH, _HEIGHT = 40, 24
_INTERESTING: Final = (
    0,
    1,
    2,
    7,
    8,
    16,
    127,
    128,
    255,
    256,
    4096,
    32767,
    32768,
    65535,
    65536,
    2**31 - 1,
    2**31,
    2**32 - 1,
)


def seeds() -> dict[str, list[bytes]]:
    """Intact files by format."""
    smooth = np.linspace(0, 255, _WIDTH * _HEIGHT * 3).reshape(_HEIGHT, _WIDTH, 3)
    noise = np.random.default_rng(0).integers(0, 40, smooth.shape)
    photo = Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))
    return {
        "jpeg": list(_jpegs(photo)),
        "png": list(_pngs(photo)),
        "webp": list(_webps(photo)),
        "gif": list(_gifs(photo)),
        "tiff": [*_pillow_tiffs(photo), *_other_tiffs()],
        "bmp": list(_bmps(photo)),
        "avif": [_saved(photo, "AVIF"), _saved(_with_alpha(photo), "AVIF", exif=_exif())],
        "heif": list(_heics(photo)),
        "jpeg2000": list(_jp2s(photo)),
    }


def mutant(chance: random.Random, name: str, files: list[bytes]) -> bytes:
    """One of the files, changed in one to eight places."""
    whole = chance.choice(files)
    data = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 5, 8))):
        if data:
            chance.choice(_CHANGES)(chance, data, files)
    if chance.random() < 0.8:  # otherwise many are not recognised as images
        data[:12] = whole[: min(12, len(data))]
    # chunks with a wrong checksum are ignored
    return _with_checksums(bytes(data)) if name == "png" and chance.random() < 0.7 else bytes(data)


def _random_offset(chance: random.Random, data: bytearray) -> int:
    """Any offset; those near the start are more frequent."""
    end = chance.choice((32, 128, 512, len(data), len(data)))
    return chance.randrange(min(end, len(data)))


def _flip(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    data[_random_offset(chance, data)] ^= 1 << chance.randrange(8)


def _byte(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    data[_random_offset(chance, data)] = chance.choice((0, 1, 127, 128, 254, 255, chance.randrange(256)))


def _number(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    length, offset = chance.choice((2, 4, 4, 8)), _random_offset(chance, data)
    value = chance.choice(_INTERESTING) + chance.choice((-1, 0, 0, 1))
    data[offset : offset + length] = (value % (1 << 8 * length)).to_bytes(length, chance.choice(("little", "big")))


def _cut(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    del data[chance.randrange(len(data)) :]


def _drop(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    offset = _random_offset(chance, data)
    del data[offset : offset + chance.choice((1, 2, 4, 16, 64))]


def _repeat(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    offset, length = _random_offset(chance, data), chance.choice((1, 4, 12, 32, 200))
    data[offset:offset] = data[offset : offset + length] * chance.choice((1, 1, 2, 50))


def _insert(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    offset = _random_offset(chance, data)
    data[offset:offset] = chance.randbytes(chance.choice((1, 2, 4, 64)))


def _splice(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    source = chance.choice(files)
    start, length = chance.randrange(len(source)), chance.choice((4, 16, 64, 300))
    offset = _random_offset(chance, data)
    data[offset : offset + length] = source[start : start + length]


def _blank(chance: random.Random, data: bytearray, files: list[bytes]) -> None:
    offset, length = _random_offset(chance, data), chance.choice((4, 16, 64, 400))
    part = len(data[offset : offset + length])
    data[offset : offset + length] = chance.choice((b"\0", b"\xff")) * part


_CHANGES: Final[tuple[Callable[[random.Random, bytearray, list[bytes]], None], ...]] = (
    _flip,
    _byte,
    _byte,
    _number,
    _number,
    _number,
    _cut,
    _drop,
    _repeat,
    _insert,
    _splice,
    _blank,
)


def _with_checksums(data: bytes) -> bytes:
    result, offset = bytearray(data), 8
    while offset + 12 <= len(result):
        end = offset + 8 + int.from_bytes(result[offset : offset + 4], "big")
        if end + 4 > len(result):
            break
        result[end : end + 4] = struct.pack(">I", zlib.crc32(result[offset + 4 : end]))
        offset = end + 4
    return bytes(result)


def _saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _exif() -> bytes:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    tags[ExifTags.Base.Make] = "maker"
    tags.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2019:07:03 16:05:09"
    tags.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.0)
    return tags.tobytes()


def _with_alpha(photo: Image.Image) -> Image.Image:
    photo = photo.copy()
    photo.putalpha(photo.getchannel(0))
    return photo


_XMP: Final = b'<a xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
_ICC: Final = profiles.rgb_profile(profiles.DISPLAY_P3, 2.2)


def _jpegs(photo: Image.Image) -> Iterator[bytes]:
    yield _saved(photo, "JPEG")
    yield _saved(photo, "JPEG", progressive=True, exif=_exif(), xmp=_XMP, icc_profile=_ICC)
    yield _saved(photo, "JPEG", restart_marker_blocks=2, subsampling=0, optimize=True)
    yield _saved(photo.convert("L"), "JPEG")
    yield _saved(photo.convert("CMYK"), "JPEG", progressive=True)


def _pngs(photo: Image.Image) -> Iterator[bytes]:
    yield _saved(photo, "PNG", exif=_exif(), icc_profile=_ICC)
    yield _saved(photo.quantize(16), "PNG", transparency=3)
    yield _saved(_with_alpha(photo), "PNG")
    yield _saved(photo, "PNG", save_all=True, append_images=[photo.rotate(90)])
    chance = np.random.default_rng(1)
    for bits, colour, channels in ((1, 0, 1), (2, 0, 1), (16, 0, 1), (16, 2, 3), (16, 4, 2), (16, 6, 4), (4, 3, 1)):
        samples = chance.integers(0, 1 << bits, (9, 13, channels))
        before = [chunk(b"PLTE", bytes(range(48)))] if colour == 3 else []
        before += [chunk(b"tRNS", bytes(2 * channels))] if colour in (0, 2, 3) else []
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(_XMP))
        yield png(samples, bits, colour, before=[*before, text], interlaced=bits != 2)


def _webps(photo: Image.Image) -> Iterator[bytes]:
    yield _saved(photo, "WEBP")
    yield _saved(photo, "WEBP", lossless=True, exif=_exif(), xmp=_XMP, icc_profile=_ICC)
    yield _saved(_with_alpha(photo), "WEBP")
    yield _saved(photo, "WEBP", save_all=True, append_images=[photo.rotate(90)])


def _gifs(photo: Image.Image) -> Iterator[bytes]:
    yield _saved(photo, "GIF", comment=b"a comment")
    yield _saved(photo.quantize(16), "GIF", transparency=3, interlace=0)
    yield _saved(photo, "GIF", save_all=True, append_images=[photo.rotate(90)], loop=0)


def _pillow_tiffs(photo: Image.Image) -> Iterator[bytes]:
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield _saved(photo, "TIFF", compression=packing)
    yield _saved(photo, "TIFF", big_tiff=True, icc_profile=_ICC, exif=_exif())
    for mode in ("L", "P", "LA", "CMYK", "LAB", "YCbCr", "RGBA", "I;16", "F"):
        grey = np.asarray(photo.convert("L")).astype(np.uint16) * 257
        yield _saved(Image.fromarray(grey) if mode == "I;16" else photo.convert(mode), "TIFF")
    for packing in ("group3", "group4", "tiff_ccitt"):
        yield _saved(photo.convert("1"), "TIFF", compression=packing)


def _other_tiffs() -> Iterator[bytes]:
    import tifffile

    chance = np.random.default_rng(2)
    shapes: list[tuple[tuple[int, ...], Any, dict[str, Any]]] = [
        ((24, 40, 3), np.uint8, {"tile": (16, 16), "photometric": "rgb"}),
        ((24, 40, 3), np.uint16, {"tile": (16, 16), "photometric": "rgb", "bigtiff": True, "compression": "zlib"}),
        ((3, 24, 40), np.uint16, {"planarconfig": "separate", "photometric": "rgb", "byteorder": ">"}),
        ((24, 40), np.uint16, {"photometric": "miniswhite", "rowsperstrip": 5, "predictor": 2, "compression": "lzw"}),
        ((24, 40, 4), np.uint8, {"photometric": "rgb", "extrasamples": ["unassalpha"], "tile": (32, 16)}),
    ]
    for shape, dtype, options in shapes:
        stream = io.BytesIO()
        keywords = {name: options.pop(name) for name in ("bigtiff", "byteorder") if name in options}
        with tifffile.TiffWriter(stream, **keywords) as writer:
            writer.write(chance.integers(0, 255, shape).astype(dtype), metadata=None, **options)
        yield stream.getvalue()


def _bmps(photo: Image.Image) -> Iterator[bytes]:
    for mode in ("RGB", "L", "P", "1", "RGBA"):
        yield _saved(photo.convert(mode), "BMP")
    packed = b"".join(bytes([8, row, 0, 0]) for row in range(8)) + b"\0\1"
    palette = bytes(range(256)) * 4
    header = struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(packed), 0, 0, 256, 0)
    yield struct.pack("<2sIHHI", b"BM", 54 + 1024 + len(packed), 0, 0, 54 + 1024) + header + palette + packed
    fields = struct.pack("<IIII", 0xF800, 0x07E0, 0x001F, 0)
    header = struct.pack("<IiiHHIIiiII", 56, 8, 4, 1, 16, 3, 64, 0, 0, 0, 0) + fields
    yield struct.pack("<2sIHHI", b"BM", 14 + 56 + 64, 0, 0, 14 + 56) + header + bytes(range(64))


def _heics(photo: Image.Image) -> Iterator[bytes]:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return
    register_heif_opener()
    yield _saved(photo, "HEIF", exif=_exif(), xmp=_XMP)
    yield _saved(_with_alpha(photo), "HEIF", icc_profile=_ICC)


def _jp2s(photo: Image.Image) -> Iterator[bytes]:
    yield _saved(photo, "JPEG2000") + struct.pack(">I", 24 + len(_XMP)) + b"uuid" + bytes(16) + _XMP
    yield _saved(photo, "JPEG2000", no_jp2=True, irreversible=True)
    yield _saved(photo.convert("L"), "JPEG2000", tile_size=(16, 16), num_resolutions=2)
    yield _saved(_with_alpha(photo), "JPEG2000")
