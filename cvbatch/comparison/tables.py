"""A comparison as rich prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from cvbatch.comparison.report import ComparisonReport
from cvbatch.comparison.verdicts import BETTER, NOT_KNOWN, NOT_WORSE, WORSE
from cvbatch.evaluation.tables import show_number

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

_MOST_ROWS: Final = 10
"""Rows of a table; JSON has more."""
_SENTENCES: Final = {
    BETTER: "the second run is better",
    NOT_WORSE: "the second run is not worse",
    WORSE: "the second run is worse",
    NOT_KNOWN: "it is not known which run is better; more images with truth may show it",
}


def render_comparison(report: ComparisonReport) -> Group:
    """Tables of the agreement, the flips, the images to look at, and the differences.

    Args:
        report: From `cvbatch.compare_runs`.
    """
    from rich.console import Group

    counts = report.pairs.to_json()
    lines = [
        f"{report.models[0]} of {report.first} and {report.models[1]} of {report.second} ({report.task})",
        f"images in both: {counts['images']:,}, matched by {counts['matched_by']}",
    ]
    for what in ("only", "failed", "removed"):
        sides = [counts[f"{what}_{side}"] for side in ("first", "second")]
        if any(sides):
            lines.append(f"{_COUNTS[what]}: {sides[0]:,} in the first, {sides[1]:,} in the second")
    agreement = report.agreement
    values: list[dict[str, Any]] = [{"measure": name, "value": value} for name, value in agreement.values.items()]
    tables = [_row_table(f"agreement, {agreement.images:,} images", values)]
    by_class: list[dict[str, Any]] = [
        {"class": name, **dict[str, Any](numbers)} for name, numbers in agreement.per_class.items()
    ]
    flips: list[dict[str, Any]] = [{**row, "examples": _shorten(row["examples"][0])} for row in agreement.flips]
    review: list[dict[str, Any]] = [{name: _shorten(value) for name, value in row.items()} for row in agreement.review]
    for title, rows in {"by class": by_class, "flips": flips, "to look at": review}.items():
        if rows:
            tables.append(_row_table(title, rows))
    if report.truth is not None:
        tables.append(_truth_table(report))
        lines += report.notes
    return Group("\n".join(lines), *tables, *_conclusions(report))


_COUNTS: Final = {
    "only": "images in one run only",
    "failed": "rows with an error",
    "removed": "rows removed from the source",
}


def _truth_table(report: ComparisonReport) -> Table:
    assert report.truth is not None
    rows = [
        {
            "measure": name,
            "first": one.first,
            "second": one.second,
            "difference": one.difference.value,
            "95 % interval": f"{one.difference.low:+.4f} … {one.difference.high:+.4f}",
            "verdict": one.verdict(report.margin),
        }
        for name, one in report.truth.differences.items()
    ]
    return _row_table(f"against truth, {report.truth.images:,} images, {report.truth.interval}", rows, len(rows))


def _conclusions(report: ComparisonReport) -> list[str]:
    if report.truth is None or report.verdict is None:
        return []
    lines = []
    if (test := report.truth.mcnemar) is not None:
        lines.append(
            f"only the first is right on {test.only_first:,} images, only the second on {test.only_second:,}: "
            f"McNemar's test ({test.to_json()['test']}), p = {test.p_value:.3g}"
        )
    main = next(iter(report.truth.differences))
    return [*lines, f"by {main}, with a margin of {report.margin:g}: {_SENTENCES[report.verdict]}"]


def _row_table(title: str, rows: Sequence[Mapping[str, Any]], limit: int = _MOST_ROWS) -> Table:
    from rich.table import Table

    hidden = max(0, len(rows) - limit)
    table = Table(title=title, title_justify="left", caption=f"{hidden} more in --json" if hidden else None)
    for column, value in rows[0].items():
        table.add_column(column, justify="left" if isinstance(value, str) else "right", overflow="fold")
    for row in rows[:limit]:
        table.add_row(*(value if isinstance(value, str) else show_number(value) for value in row.values()))
    return table


def _shorten(value: Any, limit: int = 48) -> Any:
    """The end of a long location, by which images are told apart."""
    return f"…{value[-limit:]}" if isinstance(value, str) and len(value) > limit + 1 else value
