"""Read what the samples of a TIFF mean: their number per pixel, their depth and their colours.

Source of the photometric interpretations: TIFF 6.0, sections 4 to 6, 16, 20, 21 and 23; DNG 1.7 for raw photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.tiff.codecs import BYTE_CODECS, describe_compression
from cvbatch.images.tiff.directory import TiffDirectory, TiffTag
from cvbatch.images.tiff.image_codecs import IMAGE_CODECS

JPEG_COMPRESSIONS: Final = frozenset({7})
_MAX_BITS: Final = 16
_MAX_SAMPLES: Final = 64
_SAVE_HINT: Final = "save it as RGB or grey of 8 or 16 bits"


class Photometric(IntEnum):
    """Values of the tag PhotometricInterpretation that can be converted to RGB."""

    WHITE_IS_ZERO = 0
    BLACK_IS_ZERO = 1
    RGB = 2
    PALETTE = 3
    INKS = 5
    YCBCR = 6
    CIELAB = 8
    ICCLAB = 9


COLOUR_SAMPLES: Final = {
    Photometric.WHITE_IS_ZERO: 1,
    Photometric.BLACK_IS_ZERO: 1,
    Photometric.RGB: 3,
    Photometric.PALETTE: 1,
    Photometric.INKS: 4,
    Photometric.YCBCR: 3,
    Photometric.CIELAB: 3,
    Photometric.ICCLAB: 3,
}
"""Number of colour samples; further samples of a pixel are extra samples."""

_GREY_PHOTOMETRICS: Final = (Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO)
_UNSUPPORTED_PHOTOMETRICS: Final = {
    4: "a transparency mask",
    10: "colours of fax machines (ITU L*a*b*)",
    32803: "the raw data of a camera's sensor",
    32844: "high dynamic range (LogL)",
    32845: "high dynamic range (LogLuv)",
    34892: "the raw data of a camera (linear)",
    51177: "a depth map",
    52527: "a semantic mask",
}
_UNSUPPORTED_SAMPLE_FORMATS: Final = {
    2: "signed numbers",
    3: "floating-point numbers",
    5: "complex numbers",
    6: "complex numbers",
}


class AlphaType(IntEnum):
    """Kinds of transparency in an extra sample; values of the tag ExtraSamples."""

    PREMULTIPLIED = 1
    STRAIGHT = 2


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Meaning of the samples of a picture."""

    photometric: Photometric
    bits_per_sample: int
    """Bits per sample, 1 to 16."""
    samples_per_pixel: int
    """Number of samples per pixel."""
    alpha: AlphaType | None
    alpha_index: int
    """Index of the alpha sample; 0 if there is no alpha."""
    compression: int
    has_reversed_bits: bool
    """Whether the bits of each byte are stored in reverse order (FillOrder 2)."""
    has_predictor: bool
    """Whether each sample is stored as the difference to the one on its left."""

    @property
    def image_samples(self) -> tuple[int, ...]:
        """Indices of the colour samples, and of alpha if there is one."""
        colours = tuple(range(COLOUR_SAMPLES[self.photometric]))
        return colours if self.alpha is None else (*colours, self.alpha_index)


def read_pixel_format(directory: TiffDirectory) -> PixelFormat:
    """Read what the samples of a picture mean.

    Raises:
        ImageError: `UnsupportedImage`, if they cannot be converted to RGB; `CorruptImage`, for 0 bits per sample.
    """
    compression = directory.get_integer(TiffTag.COMPRESSION, 1)
    if compression not in BYTE_CODECS and compression not in IMAGE_CODECS and compression not in JPEG_COMPRESSIONS:
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF with {describe_compression(compression)}; save it with another one"
        )
    photometric, samples = _read_photometric(directory, compression)
    if not 1 <= samples <= _MAX_SAMPLES:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {samples} bands; {_SAVE_HINT}")
    # A JPEG stores its own depth, and is decoded to 8 bits.
    bits = 8 if compression in JPEG_COMPRESSIONS else _read_bits_per_sample(directory, samples)
    _check_sample_format(directory, bits, photometric)
    _check_colour_samples(directory, photometric, samples, bits)
    alpha, alpha_index = _find_alpha_sample(directory, photometric, samples)
    return PixelFormat(
        photometric,
        bits,
        samples,
        alpha,
        alpha_index,
        compression,
        directory.get_integer(TiffTag.FILL_ORDER, 1) == 2,
        _uses_predictor(directory, bits, compression),
    )


def _read_photometric(directory: TiffDirectory, compression: int) -> tuple[Photometric, int]:
    sample_counts = directory.get_integers(TiffTag.SAMPLES_PER_PIXEL)
    bits = directory.get_integers(TiffTag.BITS_PER_SAMPLE)
    samples = sample_counts[0] if sample_counts else max(len(bits), 1)
    value = directory.get_integer(TiffTag.PHOTOMETRIC, -1)
    if value < 0:
        # As in libtiff: fax compressions default to black ink on white, all others to light on black.
        grey = Photometric.WHITE_IS_ZERO if compression in (2, 3, 4) else Photometric.BLACK_IS_ZERO
        return (Photometric.RGB if samples >= 3 else grey), samples
    if value not in COLOUR_SAMPLES:
        content = _UNSUPPORTED_PHOTOMETRICS.get(value, f"colours of kind {value}")
        raise ImageError("UnsupportedImage", f"cannot read a TIFF that contains {content}; {_SAVE_HINT}")
    if not sample_counts and compression in JPEG_COMPRESSIONS and value in (Photometric.RGB, Photometric.YCBCR):
        samples = 3
    return Photometric(value), samples


def _read_bits_per_sample(directory: TiffDirectory, samples: int) -> int:
    bits = directory.get_integers(TiffTag.BITS_PER_SAMPLE) or (1,)
    if len(set(bits[:samples])) > 1:
        listed = ", ".join(map(str, bits[:samples]))
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF whose bands differ in depth ({listed} bits); {_SAVE_HINT}"
        )
    if bits[0] < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its pixels have 0 bits")
    return bits[0]


def _check_sample_format(directory: TiffDirectory, bits: int, photometric: Photometric) -> None:
    formats = set(directory.get_integers(TiffTag.SAMPLE_FORMAT)) - {1, 4}
    if photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        formats -= {2}
    if formats:
        sample_kind = _UNSUPPORTED_SAMPLE_FORMATS.get(min(formats), "numbers of an unknown kind")
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit {sample_kind}: {_NO_RANGE_REASON}")
    if bits > _MAX_BITS:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit numbers: {_NO_RANGE_REASON}")


_NO_RANGE_REASON: Final = f"the file does not say which value is black and which is white; {_SAVE_HINT}"


def _check_colour_samples(directory: TiffDirectory, photometric: Photometric, samples: int, bits: int) -> None:
    if photometric == Photometric.INKS and (directory.get_integer(TiffTag.INK_SET, 1) != 1 or samples < 4):
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {samples} inks that are not CMYK; {_SAVE_HINT}")
    if samples < COLOUR_SAMPLES[photometric]:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF with {samples} of 3 colours; {_SAVE_HINT}")
    if photometric in _GREY_PHOTOMETRICS and samples > 2 and not _read_extra_samples(directory) & {1, 2, 999}:
        raise ImageError(
            "UnsupportedImage",
            f"cannot read a TIFF of {samples} bands that does not say which of them are colours; {_SAVE_HINT}",
        )
    has_fixed_depth = photometric in (Photometric.CIELAB, Photometric.ICCLAB, Photometric.YCBCR)
    if has_fixed_depth and bits not in ((8,) if photometric == Photometric.YCBCR else (8, 16)):
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit {photometric.name}; {_SAVE_HINT}")


def _read_extra_samples(directory: TiffDirectory) -> set[int]:
    return set(directory.get_integers(TiffTag.EXTRA_SAMPLES))


def _find_alpha_sample(
    directory: TiffDirectory, photometric: Photometric, samples: int
) -> tuple[AlphaType | None, int]:
    colours = COLOUR_SAMPLES[photometric]
    for index, kind in enumerate(directory.get_integers(TiffTag.EXTRA_SAMPLES), colours):
        # CorelDRAW writes 999.
        if kind in (1, 2, 999) and index < samples:
            return (AlphaType.PREMULTIPLIED if kind == 1 else AlphaType.STRAIGHT), index
    if photometric == Photometric.RGB and samples == 4 and TiffTag.EXTRA_SAMPLES not in directory:
        return AlphaType.STRAIGHT, 3
    return None, 0


def _uses_predictor(directory: TiffDirectory, bits: int, compression: int) -> bool:
    predictor = directory.get_integer(TiffTag.PREDICTOR, 1)
    if predictor == 1 or compression not in BYTE_CODECS or compression in (1, 32773):
        return False
    if predictor != 2 or bits not in (8, 16):
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF of {bits} bits with predictor {predictor}; {_SAVE_HINT}"
        )
    return True
