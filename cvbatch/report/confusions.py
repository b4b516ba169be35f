"""Which class is taken for which: a matrix whose cells open examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from cvbatch.report.page_data import ImageGroup, Matrix

TRUTH: Final = "truth"
ANSWER: Final = "answer"
_CLASSES: Final = 20
_GROUPS: Final = 6

Cell = tuple[str, str]
"""The true class, and the answer."""
Confusion = Collection[tuple[str, str, int]]
"""The true class, the answer, and how often."""


def choose_classes(confusion: Confusion, last: str | None = None) -> list[str]:
    """The classes that are confused most, then the most frequent ones, in the order of the alphabet.

    Args:
        confusion: How often each is taken for which.
        last: A name that comes last, such as that for nothing.
    """
    wrong, totals = Counter[str](), Counter[str]()
    for true, answer, count in confusion:
        for name in {true, answer}:
            totals[name] += count
            wrong[name] += count if true != answer else 0
    has_last = last is not None and totals.pop(last, 0) > 0
    names = sorted(sorted(totals, key=lambda name: (-wrong[name], -totals[name], name))[:_CLASSES])
    return [*names, last] if last is not None and has_last else names


def count_cells(confusion: Confusion, names: Sequence[str]) -> npt.NDArray[np.float64]:
    """Counts as a matrix, (classes, classes): of rows the truth, of columns the answers."""
    numbers = {name: number for number, name in enumerate(names)}
    values = np.zeros((len(names), len(names)))
    for true, answer, count in confusion:
        if true in numbers and answer in numbers:
            values[numbers[true], numbers[answer]] += count
    return values


def number_cells(cells: Collection[Cell], names: Sequence[str]) -> dict[Cell, str]:
    """Where cells are in a `Matrix`; those of other classes are left out."""
    numbers = {name: number for number, name in enumerate(names)}
    return {
        (true, answer): f"{numbers[true]},{numbers[answer]}"
        for true, answer in cells
        if true in numbers and answer in numbers
    }


def show_confusion(confusion: Confusion, cells: Mapping[Cell, Sequence[int]], *, as_shares: bool) -> Matrix:
    """A matrix whose cells open images.

    Args:
        confusion: How often each class is taken for which.
        cells: Row ids of images by cell.
        as_shares: Percent of the true class instead of counts, for pixels.
    """
    names = choose_classes(confusion)
    values, title = count_cells(confusion, names), "Confusion"
    if as_shares:
        totals = Counter[str]()
        for true, _, count in confusion:
            totals[true] += count
        values, title = 100 * values / np.array([[totals[name] or 1] for name in names]), "Confusion, in %"
    places = number_cells(list(cells), names)
    examples = {place: list(cells[cell]) for cell, place in places.items()}
    return Matrix(title, TRUTH, ANSWER, names, names, values.round(2).tolist(), examples)


def group_most_confused(confusion: Confusion, cells: Mapping[Cell, Sequence[int]], unit: str) -> list[ImageGroup]:
    """Images of the mistakes that are made most often.

    Args:
        confusion: How often each class is taken for which.
        cells: Row ids of images by cell.
        unit: What is counted, such as `image`.
    """
    wrong = sorted((part for part in confusion if part[0] != part[1]), key=lambda part: -part[2])[:_GROUPS]
    return [
        ImageGroup(f"{true} taken for {answer}: {count:,} {unit}{'' if count == 1 else 's'}", list(cells[true, answer]))
        for true, answer, count in wrong
        if (true, answer) in cells
    ]
