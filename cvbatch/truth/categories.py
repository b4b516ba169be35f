"""Categories of truth and of a model are the same if their names are, whatever their numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.truth.base import Ints, count_names
from cvbatch.truth.names import comparable_name, list_examples


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
    truth_labels = np.array(_find_positions(truth, model), np.int64)
    known = set(truth_labels.tolist()) - {-1}
    if not known:
        raise UsageError(
            f"{source}: expected classes of {alias}, such as {list_examples([name for name in model if name])}; "
            f"got {list_examples(truth)}; give truth with the model's classes, or another --model"
        )
    unknown = Counter({name: counts[index] for index, name in enumerate(truth) if index not in known and counts[index]})
    spelled = sorted(
        {(truth[label], name) for label, name in zip(truth_labels, model, strict=True) if name and label >= 0}
        - {(name, name) for name in truth}
    )
    notes = []
    if spelled:
        ours, theirs = spelled[0]
        notes.append(f"classes that are spelled differently: {len(spelled)}, such as {ours!r} and {alias}'s {theirs!r}")
    if unknown:
        notes.append(
            f"classes of the truth that {alias} does not know: {len(unknown)}; they take no part, with their "
            f"{sum(unknown.values()):,} labels: {count_names(unknown)}"
        )
    return MatchedCategories(truth_labels, tuple(index in known for index in range(len(truth))), tuple(notes))


def _find_positions(truth: Sequence[str], model: Sequence[str | None]) -> list[int]:
    """Position in the truth of each name of the model, or -1; the same spelling goes first.

    Where several have one name, as `crane` in ImageNet, the first goes with the first and the second with the second.
    """
    exact, similar = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for index, name in enumerate(truth):
        exact[name].append(index)
        similar[comparable_name(name)].append(index)
    seen = Counter[str]()
    found = []
    for label in model:
        places = [] if label is None else exact.get(label) or similar.get(comparable_name(label), [])
        found.append(places[min(seen[str(label)], len(places) - 1)] if places else -1)
        seen[str(label)] += 1
    return found
