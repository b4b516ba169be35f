"""A result as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_CELL_CHARACTERS: Final = 80
_NARROWEST_COLUMN: Final = 20
"""Characters; a column with longer texts is folded rather than left out."""
_BORDER_CHARACTERS: Final = 3
_DECIMALS: Final = 4


def result_table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, complete: bool) -> RenderableType:
    """A table of the result, and lines that say what is not shown.

    Args:
        columns: Names of the columns.
        rows: From `SqlQuery.first_rows`.
        complete: Whether these are all rows.
    """
    cells = [[_cell(row[name]) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    shown = _columns_that_fit(widths, Console().width)
    table = Table()
    for name in columns[:shown]:
        is_number = any(isinstance(row[name], int | float) for row in rows)
        table.add_column(Text(name), justify="right" if is_number else "left", overflow="fold")
    for line in cells:
        table.add_row(*(Text(cell) for cell in line[:shown]))
    notes = []
    if not complete:
        notes.append(f"the first {len(rows):,} rows; --rows N shows more, --to FILE.parquet writes all")
    if not rows:
        notes.append("no rows")
    if shown < len(columns):
        notes.append(f"{len(columns) - shown} more columns: {', '.join(columns[shown:])}")
    return Group(table, *(Text(note) for note in notes))


def _columns_that_fit(widths: Sequence[int], available: int) -> int:
    needed = 1
    for index, width in enumerate(widths):
        needed += min(width, _NARROWEST_COLUMN) + _BORDER_CHARACTERS
        if needed > available and index:
            return index
    return len(widths)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".") if abs(value) >= 10**-_DECIMALS else f"{value:.3g}"
    text = str(value)
    return text if len(text) <= _CELL_CHARACTERS or "\n" in text else f"{text[:_CELL_CHARACTERS]}…"
