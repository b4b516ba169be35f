"""Which label id of a model a name in the truth means: by its name, its WordNet id, or its number."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.models.wordnet import find_wordnet_ids
from cvbatch.truth.base import Ints, count_names
from cvbatch.truth.names import comparable_name, list_examples

_WORDNET_ID: Final = re.compile(r"(n\d{8})(?:[\s_-].*)?")
"""`n01443537`, or `n01443537_goldfish`."""
_BACKGROUND: Final = "background"


@dataclass(frozen=True, kw_only=True)
class ClassNumbers:
    """Label ids of the classes of the truth, and of a model's classes that the truth cannot tell apart."""

    label_ids: Ints
    """(classes of the truth,): a label id, or one from `len(model.categories)` on if the model does not know it."""
    same_as: Ints
    """(label ids,): the first label id that means the same; a list of names may have one
    twice."""
    names: tuple[str, ...]
    """Name of each number, also of the classes that the model does not know; no name comes twice."""
    notes: tuple[str, ...]


def number_classes(
    classes: Sequence[str], counts: Sequence[int], model: ModelSpec, source: str, *, background: bool = False
) -> ClassNumbers:
    """Find the label ids of the classes of the truth.

    Args:
        classes: Names in the truth.
        counts: How often the truth has each of them; notes name only those that it has.
        model: Has the categories.
        source: The truth in messages.
        background: Whether label id 0 is the background, which has no name.

    Raises:
        UsageError: If the model knows none of them; the message has examples of both sides.
    """
    schemes = [_ids_of_names(model), _ids_of_wordnet(model), _ids_of_numbers(model)]
    if background:
        schemes = [{_BACKGROUND: 0, **schemes[0]}, schemes[1], {"0": 0, **schemes[2]}]
    found = [[known.get(_id_or_name(name), -1) for name in classes] for known in schemes]
    best = max(range(len(schemes)), key=lambda index: sum(label >= 0 for label in found[index]))
    is_unknown = np.array(found[best]) < 0
    if is_unknown.all():
        raise UsageError(
            f"{source}: expected classes of {model.alias}, such as {list_examples([*filter(None, model.categories)])}; "
            f"got {list_examples(classes)}; give truth with the model's classes, or another --model"
        )
    # where truth has only names, classes of one name are one class
    same_as = _first_of_each_name(model) if best == 0 else np.arange(len(model.categories))
    label_ids = np.array(found[best], np.int64)
    label_ids[is_unknown] = len(model.categories) + np.arange(is_unknown.sum())
    unknown = {name: int(counts[index]) for index, name in enumerate(classes) if is_unknown[index]}
    seen = {name: count for name, count in unknown.items() if count}
    return ClassNumbers(
        label_ids=label_ids,
        same_as=same_as,
        names=_unique_names(model, [*unknown]),
        notes=(*_notes(best, model, same_as), *_unknown_notes(seen, model)),
    )


def _id_or_name(name: str) -> str:
    """A name without what spellings differ in; of a WordNet id with a name, the id."""
    if match := _WORDNET_ID.fullmatch(name):
        return match[1]
    return comparable_name(name)


def _ids_of_names(model: ModelSpec) -> Mapping[str, int]:
    named = [(label_id, name) for label_id, name in enumerate(model.categories) if name is not None]
    return {_id_or_name(name): label_id for label_id, name in reversed(named)}


def _ids_of_wordnet(model: ModelSpec) -> Mapping[str, int]:
    return {wordnet_id: label_id for label_id, wordnet_id in enumerate(find_wordnet_ids(model.categories))}


def _ids_of_numbers(model: ModelSpec) -> Mapping[str, int]:
    return {str(label_id): label_id for label_id, name in enumerate(model.categories) if name is not None}


def _first_of_each_name(model: ModelSpec) -> Ints:
    first = {name: label_id for label_id, name in reversed(list(enumerate(model.categories)))}
    return np.array([label_id if name is None else first[name] for label_id, name in enumerate(model.categories)])


def _unique_names(model: ModelSpec, unknown: Sequence[str]) -> tuple[str, ...]:
    """Names by number; a name that several ids have is followed by its id."""
    names = [f"label id {label_id}" if name is None else name for label_id, name in enumerate(model.categories)]
    first = _first_of_each_name(model)
    numbered = [name if first[index] == index else f"{name} ({index})" for index, name in enumerate(names)]
    taken = set(numbered)
    return (*numbered, *(f"{name} (not known)" if name in taken else name for name in unknown))


def _notes(scheme: int, model: ModelSpec, same_as: Ints) -> list[str]:
    twins = [index for index, first in enumerate(same_as) if index != first]
    if twins:
        names = ", ".join(sorted({str(model.categories[index]) for index in twins}))
        return [f"classes of {model.alias} with the same name count as one: {names}"]
    return [[], ["classes are matched by WordNet id"], [f"classes are matched by label id of {model.alias}"]][scheme]


def _unknown_notes(unknown: Mapping[str, int], model: ModelSpec) -> list[str]:
    if not unknown:
        return []
    noun = "class" if len(unknown) == 1 else "classes"
    return [
        f"{len(unknown)} {noun} of the truth unknown to {model.alias}, so that every answer is wrong: "
        f"{count_names(unknown)}"
    ]
