"""COCO's 80 classes have two numberings: 1 to 90 with gaps, and 80 numbers without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from cvbatch.models.catalog import category_set
from cvbatch.truth.base import Ints
from cvbatch.truth.names import comparable_name

_COCO_91: Final = "coco-91"


def describe_numbering(names: Sequence[str], ids: Ints) -> tuple[str, ...]:
    """Say which of the numberings some categories have; nothing if they are not COCO's.

    Args:
        names: Names of the categories.
        ids: Their numbers in the file.
    """
    numbering = _find_numbering(names, ids)
    return () if numbering is None else (f"the categories have {numbering}; they are compared by name",)


def explain_unknown_category(names: Sequence[str], ids: Ints, unknown: Sequence[int]) -> str:
    """Why annotations have numbers that no category has, as far as it can be told.

    Args:
        names: Names of the categories.
        ids: Their numbers.
        unknown: Numbers that only annotations have.
    """
    some = ", ".join(map(str, unknown[:5])) + (" …" if len(unknown) > 5 else "")
    known = f"{ids.min()} to {ids.max()}" if len(ids) else "none"
    text = f"annotations: expected a category_id that the categories have ({known}), got {some}"
    is_coco = {comparable_name(name) for name in names} == {comparable_name(name) for name in _coco_names() if name}
    if is_coco and len(_coco_names()) > max(unknown) > int(ids.max()) <= len(names):
        text += "; the annotations seem to have COCO's 91 numbering and the categories the 80 numbering"
    return f"{text}; repair the file"


def _find_numbering(names: Sequence[str], ids: Ints) -> str | None:
    by_name = {comparable_name(name): label for label, name in enumerate(_coco_names()) if name}
    wide = np.array([by_name.get(comparable_name(name), -1) for name in names])
    if not len(wide) or (wide < 0).any():
        return None
    narrow = np.searchsorted(sorted(by_name.values()), wide)
    if (ids == wide).all() and (ids != narrow + 1).any():
        return "COCO's 91 numbering (1 to 90 with gaps)"
    for first in (0, 1):
        if (ids == narrow + first).all():
            return f"COCO's 80 numbering ({first} to {len(by_name) - 1 + first} without gaps)"
    return None


def _coco_names() -> tuple[str | None, ...]:
    return category_set(_COCO_91)
