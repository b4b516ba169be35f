"""JPEG 2000 of all bit depths."""

from __future__ import annotations

from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import pytest

from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from cvbatch.images.jp2_components import read_component_depths

PIXELS = np.random.default_rng(0).integers(0, 1 << 16, (40, 48, 5))


def encoded(samples: npt.NDArray[Any], bits: int, kind: str) -> bytes:
    plain = np.ascontiguousarray(samples.astype(np.uint8 if bits <= 8 else np.uint16))
    plain = plain[..., 0] if plain.shape[2] == 1 else plain
    return bytes(imagecodecs.jpeg2k_encode(plain, codecformat=kind, bitspersample=bits))


@pytest.mark.parametrize("kind", ["jp2", "j2k"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 7, 8, 10, 12, 16])
def test_the_largest_value_of_any_depth_is_white(bits: int, kind: str) -> None:
    full = (1 << bits) - 1
    for channels in (1, 2, 3, 4):
        samples = PIXELS[..., :channels] >> (16 - bits)
        data = encoded(samples, bits, kind)
        assert read_component_depths(data) == (bits,) * channels
        colours = samples[..., : 3 if channels > 2 else 1] * 255.0 / full
        alpha = samples[..., -1:] / full if channels in (2, 4) else 1
        wanted = np.broadcast_to(colours * alpha + 255 * (1 - alpha), (40, 48, 3))
        shown = np.asarray(decode(data, max_pixels=10_000).image)
        assert np.abs(shown - wanted).max() <= (1.01 if channels in (1, 3) else 2)


@pytest.mark.parametrize("kind", ["jp2", "j2k"])
def test_more_bands_than_colours(kind: str) -> None:
    with pytest.raises(ImageError, match="JPEG 2000 image of 5 bands") as caught:
        decode(encoded(PIXELS >> 8, 8, kind), max_pixels=10_000)
    assert caught.value.kind == "UnsupportedImage"


def test_signed_samples() -> None:
    samples = (PIXELS[..., :3] >> 4) - 2048
    data = bytes(imagecodecs.jpeg2k_encode(samples.astype(np.int16), codecformat="jp2", bitspersample=12))
    shown = np.asarray(decode(data, max_pixels=10_000).image)
    assert np.abs(shown - (samples + 2048) * 255 / 4095).max() <= 0.51


@pytest.mark.parametrize("bits", [8, 16])
def test_truncated_files(bits: int) -> None:
    data = encoded(PIXELS[..., :3] >> (16 - bits), bits, "jp2")
    for length in (len(data) // 2, len(data) - 40):
        with pytest.raises(ImageError) as caught:
            decode(data[:length], max_pixels=10_000)
        assert caught.value.kind == "TruncatedImage"
