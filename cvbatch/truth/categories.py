"""Categories of truth and of a model are the same if their names are, whatever their numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.truth.base import Ints, count_names

_EXAMPLES = 5


def comparable_name(name: str) -> str:
    """A name without what spellings differ in: `Traffic_Light` and `traffic light` are one name."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


@dataclass(frozen=True)
class MatchedCategories:
    """Which category of the truth each label id of a model is."""

    truth_labels: Ints
    """(label ids,): position in the categories of the truth, or -1."""
    is_known: tuple[bool, ...]
    """Whether the model knows each category of the truth."""
    notes: tuple[str, ...]
    """Sentences about names that are spelled differently, and about names that only one side has."""


def match_categories(
    truth: Sequence[str], counts: Sequence[int], model: Sequence[str | None], source: str, alias: str
) -> MatchedCategories:
    """Match categories by name; spaces, underscores, hyphens and capitals do not matter.

    Args:
        truth: Names of the truth.
        counts: How often the truth has each of them.
        model: Name of each label id of the model, None where there is none.
        source: The truth in messages.
        alias: The model in messages.

    Raises:
        UsageError: If no name agrees; the message has examples of both sides.
    """
    position = {comparable_name(name): index for index, name in reversed(list(enumerate(truth)))}
    truth_labels = np.array([-1 if name is None else position.get(comparable_name(name), -1) for name in model])
    known = set(truth_labels.tolist()) - {-1}
    if not known:
        raise UsageError(
            f"{source}: expected classes of {alias}, such as {_list_some([name for name in model if name])}; "
            f"got {_list_some(truth)}; give truth with the model's classes, or another --model"
        )
    unknown = Counter({name: counts[index] for index, name in enumerate(truth) if index not in known})
    spelled = sorted(
        {(truth[label], name) for label, name in zip(truth_labels, model, strict=True) if name and label >= 0}
        - {(name, name) for name in truth}
    )
    notes = []
    if spelled:
        ours, theirs = spelled[0]
        notes.append(f"{len(spelled)} classes are spelled differently, such as {ours!r} in the truth and {theirs!r}")
    if unknown:
        notes.append(
            f"{len(unknown)} classes of the truth are not known to {alias} and take no part, with their "
            f"{sum(unknown.values()):,} labels: {count_names(unknown)}"
        )
    return MatchedCategories(truth_labels, tuple(index in known for index in range(len(truth))), tuple(notes))


def _list_some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_EXAMPLES])
    return f"{shown} …" if len(names) > _EXAMPLES else shown or "none"
