"""Images that look the same: copies in another size, format or quality belong on one side of a split.

Each image is a thumbnail of 16 × 16 grey values. Two are near if these differ by at most 3 of 255 in the root mean
square: another quality of JPEG, or another size, makes a difference of 1 or less. Groups are connected: if a is near b,
and b near c, then all three stay together, because any pair on two sides would let the validation see what was learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.images.preprocess import View
from cvbatch.truth.base import Ints

SIDE: Final = 16
THUMBNAIL: Final = View(resize=(SIDE, SIDE))
_NEAR: Final = 3.0
_BLOCK: Final = 1024
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
Floats = npt.NDArray[np.float32]


def grey_values(thumbnail: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The grey values of a thumbnail, (256,).

    Args:
        thumbnail: uint8 RGB, (16, 16, 3)
    """
    grey: npt.NDArray[np.uint8] = np.rint(thumbnail.astype(np.float32) @ _LUMA).astype(np.uint8)
    return grey.reshape(-1)


def group_near_images(keys: Sequence[str], thumbnails: npt.NDArray[np.uint8]) -> list[str]:
    """Give images that look the same one key: the first of theirs in the order of the alphabet.

    Thumbnails are compared in the order of their mean grey, because two that differ by more than 3 there are not near;
    so the work grows with the images times those of about the same brightness.

    Args:
        keys: (images,) such as the sha256 of each image; equal keys stay equal.
        thumbnails: (images, 256) grey values.

    Returns:
        (images,)
    """
    names, first = np.unique(np.array(keys, object).astype(str), return_index=True)
    values = thumbnails[first].astype(np.float32)
    means = values.mean(axis=1)
    order = np.argsort(means, kind="stable")
    groups = np.arange(len(names))
    for start in range(0, len(order), _BLOCK):
        block = order[start : start + _BLOCK]
        # sorted by mean: whatever comes later and is brighter by more than the limit cannot be near
        last = int(np.searchsorted(means[order], means[block[-1]] + _NEAR, "right"))
        for other_start in range(start, last, _BLOCK):
            other = order[other_start : other_start + _BLOCK]
            left, right = np.nonzero(_squared_distances(values[block], values[other]) <= _NEAR**2 * SIDE**2)
            _join(groups, block[left], other[right])
    leaders = _roots(groups, np.arange(len(names)))
    joined = names[leaders]
    return [str(joined[place]) for place in np.searchsorted(names, np.array(keys, object).astype(str))]


def _squared_distances(first: Floats, second: Floats) -> Floats:
    """Squared Euclidean distance of each pair, (first, second)."""
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1)
    distances: Floats = squares - 2 * (first @ second.T)
    return distances


def _roots(groups: Ints, members: Ints) -> Ints:
    """The group of each member: a pointer is followed to one that points to itself."""
    roots = groups[members]
    while (groups[roots] != roots).any():
        roots = groups[roots]
    return roots


def _join(groups: Ints, left: Ints, right: Ints) -> None:
    """Join the groups of pairs, in place; a group is named by its smallest member."""
    while True:
        first, second = _roots(groups, left), _roots(groups, right)
        apart = first != second
        if not apart.any():
            return
        low, high = np.minimum(first, second)[apart], np.maximum(first, second)[apart]
        np.minimum.at(groups, high, low)
