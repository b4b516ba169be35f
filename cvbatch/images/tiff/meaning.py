"""What the numbers of a TIFF mean: how many for each pixel, how deep, which colours.

Photometric interpretations: TIFF 6.0, sections 4 to 6, 16, 20, 21 and 23; DNG 1.7 for those of raw photos.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from cvbatch.errors import ImageError
from cvbatch.images.tiff.codecs import BYTE_CODECS, name_of
from cvbatch.images.tiff.directory import Directory, Tag
from cvbatch.images.tiff.image_codecs import IMAGE_CODECS

JPEG: Final = frozenset({7})
_MOST_BITS: Final = 16
_MOST_SAMPLES: Final = 64
_WORDS: Final = "save it as RGB or grey of 8 or 16 bits"


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


COLOURS: Final = {
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

_GREYS: Final = (Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO)
_STRANGE: Final = {
    4: "a transparency mask",
    10: "colours of fax machines (ITU L*a*b*)",
    32803: "the raw numbers of a camera's sensor",
    32844: "high dynamic range (LogL)",
    32845: "high dynamic range (LogLuv)",
    34892: "the raw numbers of a camera (linear)",
    51177: "a depth map",
    52527: "a semantic mask",
}
_FORMATS: Final = {2: "signed numbers", 3: "floating-point numbers", 5: "complex numbers", 6: "complex numbers"}


class Alpha(IntEnum):
    """What an extra sample says of transparency; values of the tag ExtraSamples."""

    PREMULTIPLIED = 1
    STRAIGHT = 2


@dataclass(frozen=True, slots=True)
class Meaning:
    """What each number of a picture is."""

    photometric: Photometric
    bits: int
    """Of each number, 1 to 16."""
    samples: int
    """Numbers for each pixel."""
    alpha: Alpha | None
    alpha_at: int
    """Which of the samples it is."""
    compression: int
    is_reversed: bool
    """Whether the first bit of a byte is stored last."""
    is_difference: bool
    """Whether each number is told by how much it differs from the one to its left."""

    @property
    def kept(self) -> tuple[int, ...]:
        """The samples that make the picture."""
        colours = tuple(range(COLOURS[self.photometric]))
        return colours if self.alpha is None else (*colours, self.alpha_at)


def meaning_of(directory: Directory) -> Meaning:
    """Read what the numbers of a picture mean.

    Raises:
        ImageError: `UnsupportedImage`, in the words of people, where they cannot become RGB.
    """
    compression = directory.number(Tag.COMPRESSION, 1)
    if compression not in BYTE_CODECS and compression not in IMAGE_CODECS and compression not in JPEG:
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF with {name_of(compression)}; save it with another one"
        )
    photometric, samples = _photometric(directory, compression)
    if not 1 <= samples <= _MOST_SAMPLES:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {samples} bands; {_WORDS}")
    # A JPEG tells itself how deep it is, and comes out with 8 bits.
    bits = 8 if compression in JPEG else _bits(directory, samples)
    _check_format(directory, bits, photometric)
    _check_colours(directory, photometric, samples, bits)
    alpha, alpha_at = _alpha(directory, photometric, samples)
    return Meaning(
        photometric,
        bits,
        samples,
        alpha,
        alpha_at,
        compression,
        directory.number(Tag.FILL_ORDER, 1) == 2,
        _is_difference(directory, bits, compression),
    )


def _photometric(directory: Directory, compression: int) -> tuple[Photometric, int]:
    told = directory.numbers(Tag.SAMPLES_PER_PIXEL)
    bits = directory.numbers(Tag.BITS_PER_SAMPLE)
    samples = told[0] if told else max(len(bits), 1)
    value = directory.number(Tag.PHOTOMETRIC, -1)
    if value < 0:
        # As libtiff has it: fax machines print, the others show.
        white = Photometric.WHITE_IS_ZERO if compression in (2, 3, 4) else Photometric.BLACK_IS_ZERO
        return (Photometric.RGB if samples >= 3 else white), samples
    if value not in COLOURS:
        what = _STRANGE.get(value, f"colours of kind {value}")
        raise ImageError("UnsupportedImage", f"cannot read a TIFF that holds {what}; {_WORDS}")
    if not told and compression in JPEG and value in (Photometric.RGB, Photometric.YCBCR):
        samples = 3
    return Photometric(value), samples


def _bits(directory: Directory, samples: int) -> int:
    told = directory.numbers(Tag.BITS_PER_SAMPLE) or (1,)
    depths = set(told[:samples])
    if len(depths) > 1:
        listed = ", ".join(map(str, told[:samples]))
        raise ImageError(
            "UnsupportedImage", f"cannot read a TIFF whose bands differ in depth ({listed} bits); {_WORDS}"
        )
    if told[0] < 1:
        raise ImageError("CorruptImage", "tiff cannot be decoded: its pixels have 0 bits")
    return told[0]


def _check_format(directory: Directory, bits: int, photometric: Photometric) -> None:
    formats = set(directory.numbers(Tag.SAMPLE_FORMAT)) - {1, 4}
    if photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        formats -= {2}
    if formats:
        what = _FORMATS.get(min(formats), "numbers of an unknown kind")
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit {what}: {_NO_RANGE}")
    if bits > _MOST_BITS:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit numbers: {_NO_RANGE}")


_NO_RANGE: Final = f"nothing says which of them is black and which white; {_WORDS}"


def _check_colours(directory: Directory, photometric: Photometric, samples: int, bits: int) -> None:
    if photometric == Photometric.INKS and (directory.number(Tag.INK_SET, 1) != 1 or samples < 4):
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {samples} inks that are not CMYK; {_WORDS}")
    if samples < COLOURS[photometric]:
        raise ImageError("UnsupportedImage", f"cannot read a TIFF with {samples} of 3 colours; {_WORDS}")
    if photometric in _GREYS and samples > 2 and not _extras(directory) & {1, 2, 999}:
        raise ImageError(
            "UnsupportedImage",
            f"cannot read a TIFF of {samples} bands that does not say which of them are colours; {_WORDS}",
        )
    deep = photometric in (Photometric.CIELAB, Photometric.ICCLAB, Photometric.YCBCR)
    if deep and bits not in ((8,) if photometric == Photometric.YCBCR else (8, 16)):
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits}-bit {photometric.name}; {_WORDS}")


def _extras(directory: Directory) -> set[int]:
    return set(directory.numbers(Tag.EXTRA_SAMPLES))


def _alpha(directory: Directory, photometric: Photometric, samples: int) -> tuple[Alpha | None, int]:
    colours = COLOURS[photometric]
    for place, kind in enumerate(directory.numbers(Tag.EXTRA_SAMPLES), colours):
        if kind in (1, 2, 999) and place < samples:
            # 999 is CorelDRAW's
            return (Alpha.PREMULTIPLIED if kind == 1 else Alpha.STRAIGHT), place
    if photometric == Photometric.RGB and samples == 4 and Tag.EXTRA_SAMPLES not in directory:
        return Alpha.STRAIGHT, 3
    return None, 0


def _is_difference(directory: Directory, bits: int, compression: int) -> bool:
    predictor = directory.number(Tag.PREDICTOR, 1)
    if predictor == 1 or compression not in BYTE_CODECS or compression in (1, 32773):
        return False
    if predictor != 2 or bits not in (8, 16):
        raise ImageError("UnsupportedImage", f"cannot read a TIFF of {bits} bits with predictor {predictor}; {_WORDS}")
    return True
