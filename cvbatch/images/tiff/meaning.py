"""What the numbers of a TIFF mean: how many for each pixel, how deep, which colours.

Photometric interpretations: TIFF 6.0, sections 4 to 6, 16, 20, 21 and 23; DNG 1.7 for those of raw photos.
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
    """Values of the tag PhotometricInterpretation that can become RGB."""

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
"""Samples that make the colour; those that follow are extra."""

_GREY_PHOTOMETRICS: Final = (Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO)
_UNSUPPORTED_PHOTOMETRICS: Final = {
    4: "a transparency mask",
    10: "colours of fax machines (ITU L*a*b*)",
    32803: "the raw numbers of a camera's sensor",
    32844: "high dynamic range (LogL)",
    32845: "high dynamic range (LogLuv)",
    34892: "the raw numbers of a camera (linear)",
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
    """What an extra sample says of transparency; values of the tag ExtraSamples."""

    PREMULTIPLIED = 1
    STRAIGHT = 2


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """What each number of a picture is."""

    photometric: Photometric
    bits_per_sample: int
    """Of each number, 1 to 16."""
    samples_per_pixel: int
    """Numbers for each pixel."""
    alpha: AlphaType | None
    alpha_index: int
    """Which of the samples it is."""
    compression: int
    has_reversed_bits: bool
    """Whether the first bit of a byte is stored last."""
    has_predictor: bool
    """Whether each number is told by how much it differs from the one to its left."""

    @property
    def image_samples(self) -> tuple[int, ...]:
        """The samples that make the picture."""
        colours = tuple(range(COLOUR_SAMPLES[self.photometric]))
        return colours if self.alpha is None else (*colours, self.alpha_index)


def read_pixel_format(directory: TiffDirectory) -> PixelFormat:
    """Read what the numbers of a picture mean.

    Raises:
        ImageError: `UnsupportedImage`, in the words of people, where they cannot become RGB.
    """
    compression = directory.get_integer(TiffTag.COMPRESSION, 1)
    if compression not in BYTE_CODECS and compression not in IMAGE_CODECS and compression not in JPEG_COMPRESSIONS:
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF with {describe_compression(compression)}; save it with another one"
        )
    photometric, samples = _read_photometric(directory, compression)
    if not 1 <= samples <= _MAX_SAMPLES:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {samples} bands; {_SAVE_HINT}")
    # A JPEG tells itself how deep it is, and comes out with 8 bits.
    bits = 8 if compression in JPEG_COMPRESSIONS else _read_bits_per_sample(directory, samples)
    _check_sample_format(directory, bits, photometric)
    _check_colour_samples(directory, photometric, samples, bits)
    alpha, alpha_at = _find_alpha_sample(directory, photometric, samples)
    return PixelFormat(
        photometric,
        bits,
        samples,
        alpha,
        alpha_at,
        compression,
        directory.get_integer(TiffTag.FILL_ORDER, 1) == 2,
        _uses_predictor(directory, bits, compression),
    )


def _read_photometric(directory: TiffDirectory, compression: int) -> tuple[Photometric, int]:
    told = directory.get_integers(TiffTag.SAMPLES_PER_PIXEL)
    bits = directory.get_integers(TiffTag.BITS_PER_SAMPLE)
    samples = told[0] if told else max(len(bits), 1)
    value = directory.get_integer(TiffTag.PHOTOMETRIC, -1)
    if value < 0:
        # As libtiff has it: fax machines print, the others show.
        white = Photometric.WHITE_IS_ZERO if compression in (2, 3, 4) else Photometric.BLACK_IS_ZERO
        return (Photometric.RGB if samples >= 3 else white), samples
    if value not in COLOUR_SAMPLES:
        what = _UNSUPPORTED_PHOTOMETRICS.get(value, f"colours of kind {value}")
        raise ImageError("UnsupportedImage", f"cannot read a TIFF that holds {what}; {_SAVE_HINT}")
    if not told and compression in JPEG_COMPRESSIONS and value in (Photometric.RGB, Photometric.YCBCR):
        samples = 3
    return Photometric(value), samples


def _read_bits_per_sample(directory: TiffDirectory, samples: int) -> int:
    told = directory.get_integers(TiffTag.BITS_PER_SAMPLE) or (1,)
    depths = set(told[:samples])
    if len(depths) > 1:
        listed = ", ".join(map(str, told[:samples]))
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF whose bands differ in depth ({listed} bits); {_SAVE_HINT}"
        )
    if told[0] < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its pixels have 0 bits")
    return told[0]


def _check_sample_format(directory: TiffDirectory, bits: int, photometric: Photometric) -> None:
    formats = set(directory.get_integers(TiffTag.SAMPLE_FORMAT)) - {1, 4}
    if photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        formats -= {2}
    if formats:
        what = _UNSUPPORTED_SAMPLE_FORMATS.get(min(formats), "numbers of an unknown kind")
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit {what}: {_NO_RANGE_REASON}")
    if bits > _MAX_BITS:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit numbers: {_NO_RANGE_REASON}")


_NO_RANGE_REASON: Final = f"nothing says which of them is black and which white; {_SAVE_HINT}"


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
    deep = photometric in (Photometric.CIELAB, Photometric.ICCLAB, Photometric.YCBCR)
    if deep and bits not in ((8,) if photometric == Photometric.YCBCR else (8, 16)):
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit {photometric.name}; {_SAVE_HINT}")


def _read_extra_samples(directory: TiffDirectory) -> set[int]:
    return set(directory.get_integers(TiffTag.EXTRA_SAMPLES))


def _find_alpha_sample(
    directory: TiffDirectory, photometric: Photometric, samples: int
) -> tuple[AlphaType | None, int]:
    colours = COLOUR_SAMPLES[photometric]
    for place, kind in enumerate(directory.get_integers(TiffTag.EXTRA_SAMPLES), colours):
        if kind in (1, 2, 999) and place < samples:
            # 999 is CorelDRAW's
            return (AlphaType.PREMULTIPLIED if kind == 1 else AlphaType.STRAIGHT), place
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
