"""What a section of answers is made from, and what it may show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import pyarrow as pa

from cvbatch.errors import UsageError
from cvbatch.report.image_names import ImageNames
from cvbatch.report.page_data import AnswerSection, DataTable, Fact, ImageGroup, Matrix, MistakeGroup
from cvbatch.results.answer_files import place_answer
from cvbatch.results.committed import OpenedOutput, Output, Storage
from cvbatch.truth.base import TruthOptions

MOST_ROWS: Final = 100
"""Rows of a table."""
Number: TypeAlias = float | int | None
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionRequest:
    """What is asked for."""

    output: Output
    opened: OpenedOutput
    names: ImageNames
    """Of the images."""
    truth: Output | None = None
    """Annotations to evaluate with."""
    truth_options: TruthOptions = field(default_factory=TruthOptions)
    """How they are read."""
    reference: Output | None = None
    """Another run to compare with."""
    storage: Storage = None


def read_answer(request: SectionRequest, question: str) -> tuple[pa.Table, str] | None:
    """Read the answer of another command, if it is where that command puts it.

    Args:
        request: The run.
        question: Name of the command.

    Returns:
        Its rows, and a sentence about where they come from; None without an answer, or with that of another run.
    """
    try:
        answer = place_answer(request.opened, request.output, question, None, request.storage).read()
    except UsageError:  # there is no place beside the run, or something else is there
        return None
    if answer is None or not answer[0].num_rows:
        return None
    files, read = {file.path for file in request.opened.committed_files().files}, set(answer[1].files)
    if read and not read & files:
        return None
    newer = "; the run has newer rows, which are not in it" if files - read else ""
    return answer[0], f"From the answer of cvbatch {question}{newer}."


def format_number(value: Number) -> str:
    """A number as a person reads it."""
    if value is None:
        return "none"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def number_facts(
    values: Mapping[str, Number], intervals: Mapping[str, tuple[float, float]] | None = None
) -> list[Fact]:
    """Numbers as facts, with their intervals where they have one."""
    known = intervals or {}
    return [
        Fact(name, format_number(value), f"{known[name][0]:.3f} to {known[name][1]:.3f}" if name in known else "")
        for name, value in values.items()
    ]


def table_of_rows(title: str, rows: Iterable[Mapping[str, Any]]) -> DataTable:
    """A table of plain data; nested values are left out.

    Args:
        title: Of the table.
        rows: With the same keys; the first hundred are shown.
    """
    some = list(rows)[:MOST_ROWS]
    columns = [name for name in (some[0] if some else {}) if not isinstance(some[0][name], list | dict)]
    return DataTable(title, columns, [[_shorten(row.get(name)) for name in columns] for row in some])


def table_by_name(title: str, first: str, rows: Mapping[str, Mapping[str, Any]]) -> DataTable:
    """A table of numbers by name, such as those of each class.

    Args:
        title: Of the table.
        first: Title of the column with the names.
        rows: Numbers by name.
    """
    return table_of_rows(title, ({first: name, **numbers} for name, numbers in rows.items()))


def shown_row_ids(section: AnswerSection) -> list[int]:
    """Row ids of all images that a section would show: the first of each of its lists, then the second, and so on."""
    lists = [
        [mistake.row_id for mistake in group.mistakes] for group in (section.kinds.groups if section.kinds else ())
    ]
    lists += [group.row_ids for group in section.groups]
    lists += [ids for matrix in section.matrices for ids in matrix.examples.values()]
    lists += [[mistake.row_id for mistake in cell] for matrix in section.matrices for cell in matrix.mistakes.values()]
    longest = max(map(len, lists), default=0)
    return list(dict.fromkeys(ids[place] for place in range(longest) for ids in lists if place < len(ids)))


def keep_shown(section: AnswerSection, shown: Iterable[int]) -> AnswerSection:
    """The section without images that the page does not have.

    Args:
        section: As it was made.
        shown: Row ids of the images of the page.
    """
    known = set(shown)
    groups = [
        ImageGroup(group.title, ids)
        for group in section.groups
        if (ids := [row for row in group.row_ids if row in known])
    ]
    matrices = [_keep_cells(matrix, known) for matrix in section.matrices]
    kinds = section.kinds and replace(section.kinds, groups=_keep_mistakes(section.kinds.groups, known))
    return replace(section, groups=groups, matrices=matrices, kinds=kinds)


def _keep_cells(matrix: Matrix, known: set[int]) -> Matrix:
    examples = {cell: [row for row in ids if row in known] for cell, ids in matrix.examples.items()}
    mistakes = {cell: [one for one in some if one.row_id in known] for cell, some in matrix.mistakes.items()}
    return replace(
        matrix,
        examples={cell: ids for cell, ids in examples.items() if ids},
        mistakes={cell: some for cell, some in mistakes.items() if some},
    )


def _keep_mistakes(groups: list[MistakeGroup], known: set[int]) -> list[MistakeGroup]:
    kept = [replace(group, mistakes=[one for one in group.mistakes if one.row_id in known]) for group in groups]
    return [group for group in kept if group.mistakes]


def _shorten(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
