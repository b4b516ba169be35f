"""Another run: compared image by image where the images are the same, else by the distribution of what they show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.comparison.compare import compare_runs
from cvbatch.comparison.pairing import pair_runs
from cvbatch.comparison.report import ComparisonReport
from cvbatch.drift.measure import measure_drift
from cvbatch.errors import UsageError
from cvbatch.report.page_data import AnswerSection, ImageGroup
from cvbatch.report.section_base import SectionRequest, format_number, number_facts, table_by_name, table_of_rows
from cvbatch.results.committed import OpenedOutput, open_output
from cvbatch.results.streaming import RowSelection, read_rows
from cvbatch.schema import IMAGE_URI, ROW_ID

COMPARISON: Final = "comparison"
DRIFT: Final = "drift"
_REVIEWED: Final = 12
_FIRST: Final = re.compile(r"(?<![a-z])(the )?first(?![a-z])")
_SECOND: Final = re.compile(r"(?<![a-z])second(?![a-z])")
_PIXELS: Final = 100
"""Images of each run that are read again for brightness and sharpness."""
_MOST_ROWS: Final = 20_000
"""Images of both runs together whose distributions are compared."""


def show_reference(request: SectionRequest) -> list[AnswerSection]:
    """Compare with the reference, if there is one."""
    if request.reference is None:
        return []
    other = open_output(request.reference, request.storage)
    try:
        pair_runs(request.opened, other)
    except UsageError:  # no image is in both
        return [_show_drift(request)]
    aliases = {model.alias: model.task for model in request.opened.plan.models}
    common = [model.alias for model in other.plan.models if aliases.get(model.alias) == model.task]
    if len(common) < 2:
        return [_show_comparison(request, None)]
    return [_show_comparison(request, alias) for alias in common]


def _show_comparison(request: SectionRequest, alias: str | None) -> AnswerSection:
    assert request.reference is not None, "only called with one"
    report = compare_runs(request.output, request.reference, model=alias, review=_REVIEWED, storage=request.storage)
    agreement = report.agreement
    images = _row_ids_of(request.opened, [str(row["image"]) for row in agreement.review])
    review = [{**row, "image": request.names.name_of(str(row["image"]))} for row in agreement.review]
    tables = [
        table_by_name(
            "Agreement by class", "class", {name: _name_sides(row) for name, row in agreement.per_class.items()}
        ),
        table_of_rows("Answers that differ", map(_name_sides, agreement.flips)),
        table_of_rows("Images to look at", map(_name_sides, review)),
    ]
    return AnswerSection(
        name=COMPARISON,
        title=f"Comparison: {report.models[0]}",
        sentence=_compare_in_words(report),
        facts=number_facts(_name_sides(agreement.values)),
        tables=[table for table in tables if table.rows],
        groups=[ImageGroup("The runs differ most on these", images)] if images else [],
        notes=list(report.notes),
    )


def _name_sides(numbers: Mapping[str, Any]) -> dict[str, Any]:
    """Names with the sides that this page knows, instead of the first and the second run."""
    return {
        _SECOND.sub("reference", _FIRST.sub("this run", name)).replace("_", " "): value
        for name, value in numbers.items()
    }


def _row_ids_of(opened: OpenedOutput, uris: list[str]) -> list[int]:
    """Row ids of images, in the order of their locations."""
    rows = read_rows(
        opened, RowSelection(columns=[ROW_ID, IMAGE_URI], where=pads.field(IMAGE_URI).isin(pa.array(uris, pa.string())))
    )
    numbers = dict(zip(rows[IMAGE_URI].to_pylist(), rows[ROW_ID].to_pylist(), strict=True))
    return [numbers[uri] for uri in uris if uri in numbers]


def _compare_in_words(report: ComparisonReport) -> str:
    first = next(iter(report.agreement.values.items()), None)
    measured = "" if first is None else f"; {first[0]}: {format_number(first[1])}"
    same = "" if report.agreement.review else "; no answer differs"
    return f"{report.agreement.images:,} images are in this run and in {report.second}{measured}{same}."


def _show_drift(request: SectionRequest) -> AnswerSection:
    report = measure_drift(
        request.output, request.reference, pixels=_PIXELS, max_rows=_MOST_ROWS, storage=request.storage
    )
    shifts: list[dict[str, object]] = [
        {
            "signal": shift.signal,
            "effect": shift.effect,
            "p": shift.p,
            "reference": shift.reference,
            "this run": shift.value,
            "check": "yes" if shift.is_flagged else "",
        }
        for shift in report.shifts
    ]
    classes = [
        {"model": shift.model, "class": shift.label, "reference": shift.reference, "this run": shift.value}
        for shift in report.classes
    ]
    images = [int(example[ROW_ID]) for example in report.examples]
    return AnswerSection(
        name=DRIFT,
        title="Drift",
        sentence=report.sentence,
        tables=[
            table
            for table in (table_of_rows("Signals", shifts), table_of_rows("Shares of classes", classes))
            if table.rows
        ],
        groups=[ImageGroup("Most unlike the reference", images)] if images else [],
        notes=list(report.notes),
    )
