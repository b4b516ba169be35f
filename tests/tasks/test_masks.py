"""Run-length encoding, against masks with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from cvbatch.tasks.masks import decode_mask, encode_mask


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (37, 1), (40, 30), (300, 500)])
def test_decoding_gives_the_mask_back(share: float, size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size) < share
    decoded = decode_mask(encode_mask(mask), *size)
    assert decoded.dtype == np.bool_
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("order", ["C", "F"])
def test_large_blobs_in_either_order(order: str) -> None:
    rows, columns = np.ogrid[:1200, :1600]
    mask = np.asarray((rows - 500) ** 2 + (columns - 700) ** 2 < 300**2, order=order)  # type: ignore[call-overload]
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), 1200, 1600), mask)


def test_counts_are_those_of_coco() -> None:
    mask = np.zeros((3, 4), np.bool_)
    mask[1:, 1:3] = True
    assert encode_mask(mask) == b"42102"  # runs 4 2 1 2 3, from the fourth on less the last but one


def test_a_wrong_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected a mask of 3 × 3 pixels, got one of 4"):
        decode_mask(encode_mask(np.ones((2, 2), np.bool_)), 3, 3)
