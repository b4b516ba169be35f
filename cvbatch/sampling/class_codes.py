"""The classes of two models as numbers that both share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvbatch.models.spec import ModelSpec
from cvbatch.sampling.list_values import Ids


@dataclass(frozen=True, slots=True)
class ClassCodes:
    """Numbers for the classes of two models, equal for what both name."""

    names: tuple[str | None, ...]
    """Name of each code."""
    first: Ids
    """The code of each label id of the first model."""
    second: Ids
    """The same of the second model."""


def share_codes(first: ModelSpec, second: ModelSpec) -> ClassCodes:
    """Codes by label id if both models have the same classes, otherwise by name."""
    if first.categories == second.categories:
        codes = np.arange(len(first.categories))
        return ClassCodes(first.categories, codes, codes)
    numbers = {name: code for code, name in enumerate(dict.fromkeys((*first.categories, *second.categories)))}
    of_first, of_second = (np.array([numbers[name] for name in model.categories]) for model in (first, second))
    return ClassCodes(tuple(numbers), of_first, of_second)
