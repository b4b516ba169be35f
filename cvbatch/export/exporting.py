"""Exports the predictions of a run to a format of another tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cvbatch.errors import UsageError
from cvbatch.export.base import ExportFormat, FormatOptions, find_format
from cvbatch.export.names import NO_NAMES, find_names
from cvbatch.export.reading import Chosen, RunExport, choose_model
from cvbatch.export.targets import open_target
from cvbatch.output.commit_log import CommitLog
from cvbatch.repeats.filter import open_repeat_filter
from cvbatch.results.committed import Output, Storage, open_output
from cvbatch.results.where import Where
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.tasks import DETECTION


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportReport:
    """What was exported."""

    format: str
    path: str
    model: str | None
    """Alias of the model."""
    images: int
    elements: int
    """Boxes, segments or labels."""
    failed: int
    """Images that are left out because they have an error."""
    removed: int
    """Images that are left out because they were removed from the source."""
    repeats: int
    """Boxes that are left out because they are in `without_repeats`."""
    not_labelled: int
    """Planned images that had no row yet."""
    notes: Mapping[str, int] = field(default_factory=dict)
    """Further counts of the format."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def export_predictions(
    output: Output,
    format: str,
    to: Output,
    *,
    model: str | None = None,
    where: Where = None,
    classes: Sequence[str | int] | None = None,
    min_score: float | None = None,
    without_repeats: Output | None = None,
    options: FormatOptions | None = None,
    storage: Storage = None,
) -> ExportReport:
    """Export predictions to a format of another tool.

    Images that failed, and those that were removed from the source, are left out and counted. Images without anything
    found stay in.

    Args:
        output: The output location; the run may be unfinished.
        format: A row of `cvbatch.export.base.EXPORTERS`, such as `coco`.
        to: New file or folder, by the format; a path or a URI of a bucket.
        model: Column prefix of the model; None if only one could be meant.
        where: Only images for which this holds, such as `"width > 1000"`.
        classes: Only elements of these categories, by name or id; images without any stay in.
        min_score: Elements with a lower score are left out (segments: with a smaller share of the pixels).
        without_repeats: Answer of `find_repeats`; the boxes in it are left out.
        options: What only some formats take.
        storage: As for `read`; for `to`, too, if it is in a bucket.

    Raises:
        OutputError: If there is no run, no such model, or something at `to`.
        UsageError: If the format, an option, a class or the condition is wrong, or an extra is missing.
        RunError: If `to` cannot be written.
    """
    export_format, options = find_format(format), options or FormatOptions()
    chosen = Chosen(where=where, classes=classes, min_score=min_score)
    choices = (model, where, classes, min_score, without_repeats)
    _check_options(format, export_format, options, is_whole=all(choice is None for choice in choices))
    exporter_class = export_format.load_exporter()
    opened = open_output(output, storage)
    spec = choose_model(opened, export_format.tasks, model)
    if without_repeats is not None:
        if spec is None or spec.task != DETECTION.name:
            raise UsageError("without_repeats: expected an export of boxes; name a detection model")
        chosen = replace(chosen, repeats=open_repeat_filter(opened, spec, without_repeats, storage))
    location = Location.from_path_or_uri(to, StorageOptions.from_mapping(storage or {}))
    if location.uri == opened.store.root and not export_format.registers_files:
        raise UsageError(f"{location} is the run itself; expected another path")
    with open_target(location, is_folder=export_format.is_folder, may_exist=export_format.may_exist) as target:
        job = RunExport(
            opened=opened,
            model=spec,
            target=target,
            options=options,
            chosen=chosen,
            names=NO_NAMES
            if export_format.registers_files
            else find_names(opened, unique_stems=export_format.names_files),
        )
        notes = exporter_class(job).export()
    state = CommitLog(opened.store, opened.plan.rows).state
    return ExportReport(
        format=format,
        path=str(location),
        model=spec.alias if spec else None,
        **asdict(job.counts),
        not_labelled=state.remaining_rows,
        notes=dict(notes),
    )


def _check_options(name: str, export_format: ExportFormat, options: FormatOptions, *, is_whole: bool) -> None:
    if export_format.registers_files and not is_whole:
        raise UsageError(
            f"the format {name} registers whole files: expected no model, where, classes, min_score or without_repeats"
        )
    for option in options.given():
        if option not in export_format.options:
            known = ", ".join(sorted(export_format.options)) or "none of these options"
            raise UsageError(f"the format {name} does not take {option}; it takes {known}")
