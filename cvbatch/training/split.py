"""Which images are for validation: the same ones on each machine, because only seed, class and content decide."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


def choose_validation(keys: Sequence[str], strata: npt.NDArray[Any], share: float, seed: int) -> Bools:
    """Choose groups of images for validation, of each stratum the same share.

    The groups of a stratum are ordered by a hash of seed and key, and the first ones are chosen. So an image that is
    added later moves few others to the other side.

    Args:
        keys: (images,) images with the same key stay on one side; by default the sha256 of their content.
        strata: (images,) integers, such as classes; a group belongs to that of its first image.
        share: Of the images.
        seed: Another seed gives another choice.

    Returns:
        (images,)
    """
    names, first, groups, sizes = np.unique(
        np.array(keys, object).astype(str), return_index=True, return_inverse=True, return_counts=True
    )
    ranks = np.array([hashlib.sha256(f"{seed}/{name}".encode()).hexdigest() for name in names.tolist()])
    group_strata = strata[first]
    chosen = np.zeros(len(names), np.bool_)
    for stratum in np.unique(group_strata):
        members = np.flatnonzero(group_strata == stratum)
        ordered = members[np.argsort(ranks[members])]
        wanted = share * sizes[members].sum()
        before = np.cumsum(sizes[ordered]) - sizes[ordered]
        taken = ordered[before + sizes[ordered] / 2 <= wanted]
        if not len(taken) and len(ordered) > 1:
            taken = ordered[:1]
        chosen[taken[: len(ordered) - 1]] = True  # something to learn from stays
    return chosen[groups]
