"""Another run: compared image by image where the images are the same, else by the distribution of what they show."""

from __future__ import annotations

from typing import Final

import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.comparison.compare import compare_runs
from cvbatch.comparison.pairing import pair_runs
from cvbatch.comparison.report import ComparisonReport
from cvbatch.drift.measure import measure_drift
from cvbatch.errors import UsageError
from cvbatch.report.page_data import AnswerSection, Fact, ImageGroup
from cvbatch.report.section_base import SectionRequest, format_number, number_facts, table_by_name, table_of_rows
from cvbatch.results.committed import OpenedOutput, open_output
from cvbatch.results.streaming import RowSelection, read_rows
from cvbatch.schema import IMAGE_URI, ROW_ID

COMPARISON: Final = "comparison"
DRIFT: Final = "drift"
_REVIEWED: Final = 12
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
    sides = "first is this run, second the reference"
    return AnswerSection(
        name=COMPARISON,
        title=f"Comparison: {report.models[0]}",
        sentence=_compare_in_words(report),
        facts=number_facts(dict(agreement.values)),
        tables=[
            table_by_name("Agreement by class", "class", agreement.per_class),
            table_of_rows(f"Answers that differ ({sides})", agreement.flips),
            table_of_rows(f"Images to look at ({sides})", agreement.review),
        ],
        groups=[ImageGroup("The runs differ most on these", images)] if images else [],
    )


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
    return f"{report.agreement.images:,} images are in this run and in {report.second}{measured}."


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
        facts=[Fact("note", note) for note in report.notes],
        tables=[table_of_rows("Signals", shifts), table_of_rows("Shares of classes", classes)],
        groups=[ImageGroup("Most unlike the reference", images)] if images else [],
    )
