"""An evaluation as rich prints it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from cvbatch.evaluation.report import ERROR_KINDS, EvaluationReport, Metrics, Numbers
from cvbatch.truth.alignment import Alignment

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_MOST_CLASSES: Final = 40
"""Classes in the table; JSON has all of them."""


def render_report(report: EvaluationReport) -> Group:
    """Tables of the numbers, of the classes and of the slices, below what they are about.

    Args:
        report: From `cvbatch.evaluate`.
    """
    from rich.console import Group

    lines = [f"{report.model} ({report.task}) against {report.truth} ({report.layout})"]
    lines += describe_alignment(report.alignment)
    lines += report.notes
    tables: list[Table | Group] = [
        table for name, metrics in report.metrics.items() for table in _metric_tables(name, metrics)
    ]
    if report.by is not None:
        tables += [_slice_table(report, name) for name in report.metrics]
    return Group("\n".join(lines), *tables)


def describe_alignment(alignment: Alignment) -> list[str]:
    """Lines that say which images take part, and which do not."""
    total, judged = len(alignment.row_ids), int(alignment.takes_part.sum())
    counts = {
        "truth without a row": (alignment.without_row, total, alignment.example_without_row),
        "truth whose row has an error": (alignment.failed, total, None),
        "truth left out by the condition": (alignment.not_selected, total, None),
        "rows without truth": (alignment.rows_without_truth, alignment.rows, alignment.example_without_truth),
        "rows removed from the source": (alignment.removed_rows, alignment.rows + alignment.removed_rows, None),
    }
    lines = [f"images judged: {judged:,} of {total:,}, matched by {alignment.matched_by}"]
    for what, (count, of, example) in counts.items():
        if count:
            lines.append(f"{what}: {count:,} of {of:,}" + (f", such as {example}" if example else ""))
    return lines


def show_number(value: float | None) -> str:
    """A number with four digits, a count as it is, and a dash where there is nothing to measure."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _metric_tables(name: str, metrics: Metrics) -> Iterator[Table | Group]:
    from rich.table import Table

    table = Table(title=f"{name}, {metrics.images:,} images", title_justify="left")
    table.add_column("measure")
    table.add_column("value", justify="right")
    if metrics.intervals:
        table.add_column("95 % interval", justify="right")
    for measure, value in metrics.values.items():
        row = [measure, show_number(value)]
        if measure in metrics.intervals:
            row.append(" … ".join(map(show_number, metrics.intervals[measure])))
        table.add_row(*row)
    yield table
    if metrics.per_class:
        yield _number_table(f"{name} by class", "class", metrics.per_class, _MOST_CLASSES)
    if ERROR_KINDS in metrics.details:
        errors = metrics.details[ERROR_KINDS]
        title = f"{name}: kinds of error, {errors['images']:,} images, AP50 {errors['AP50']:.4f}"
        yield _number_table(title, "kind", errors["kinds"], len(errors["kinds"]))
    for title, entries in metrics.tables.items():
        if entries:
            yield _row_table(f"{name}, {title}", entries)


def _row_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of rows with text and numbers."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column, value in rows[0].items():
        table.add_column(column, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(value if isinstance(value, str) else show_number(value) for value in row.values()))
    return table


def _slice_table(report: EvaluationReport, name: str) -> Group:
    rows = {
        value: {"images": parts[name].images, **parts[name].values}
        for value, parts in report.slices.items()
        if name in parts
    }
    return _number_table(f"{name} by {report.by}", str(report.by), rows, len(rows))


def _number_table(title: str, heading: str, rows: Mapping[str, Numbers], limit: int) -> Group:
    from rich.console import Group
    from rich.table import Table

    hidden = max(0, len(rows) - limit)
    columns = list(dict.fromkeys(name for numbers in rows.values() for name in numbers))
    columns = [name for name in columns if any(numbers.get(name) is not None for numbers in rows.values())]
    caption = f"{hidden} more in --json" if hidden else None
    table = Table(caption=caption, box=None, padding=(0, 2, 0, 0))
    table.add_column(heading, overflow="fold")
    cells = [[show_number(numbers.get(column)) for column in columns] for numbers in list(rows.values())[:limit]]
    for column, shown in zip(columns, zip(*cells, strict=True), strict=True):
        # a narrow terminal may fold names, but must not cut numbers
        table.add_column(column, justify="right", overflow="fold", min_width=max(map(len, shown)))
    for name, row in zip(rows, cells, strict=False):
        table.add_row(name, *row)
    return Group(f"\n{title}", table)  # a table would fold its title to its own width
