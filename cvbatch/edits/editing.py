"""Edits of the images of a run, as a run of their own: planned, committed and resumed in the same way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.edits.base import Edit
from cvbatch.edits.found_objects import ObjectSelection
from cvbatch.edits.names import find_relative_paths
from cvbatch.edits.stage import EditStage
from cvbatch.edits.target import AUDIT_FOLDER, delete_temporary_files
from cvbatch.edits.target_checks import check_new_target, check_target
from cvbatch.engine.image_jobs import start_work_on_ray
from cvbatch.errors import OutputError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.log_records import RunState
from cvbatch.output.row_ranges import RowRange
from cvbatch.output.store import open_store
from cvbatch.pipeline import RunObserver, run_without_models
from cvbatch.planning.plan import load_plan
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.planned_images import PlannedImages
from cvbatch.results.planned_source import PlannedSource
from cvbatch.schema import EDIT_FIELDS
from cvbatch.storage.location import Location

_UPDATES: Final = "updates"
"""Option of an edit that says what the run knew of its images: how many, how often changed, and how many removed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt at an edit runs; none of it changes what is written."""

    watcher: RunObserver
    takeover: bool = False
    retry_errors: Literal["none", "transient", "all"] = "none"
    compute: ComputeConfig | None = None
    wait: bool = False
    """Wait while another process works on the same edit, instead of raising."""


def edit_images(opened: OpenedOutput, edit: Edit, objects: ObjectSelection, to: Location, attempt: Attempt) -> RunState:
    """Edit every image of a finished run exactly once; the same call resumes.

    Args:
        opened: The run.
        edit: What is done to each image.
        objects: What it is done to.
        to: Where the files go; the audit is in `_audit` there.
        attempt: How this attempt runs.

    Returns:
        State of the audit's commit log.

    Raises:
        OutputError: If the run is not finished, or has changed since this edit began; or `to` holds something else.
        UsageError: If `to` is no place for edited files.
        RunError: If the edit did not finish; images that are committed stay.
    """
    state = CommitLog(opened.store, opened.plan.rows).state
    if state.remaining_rows:
        raise OutputError(f"{opened.store.root} is not finished: expected a finished run; continue it with cvbatch run")
    images = PlannedImages(opened)
    check_target(to, images.job.source.uris, opened.location)
    options = _options_of(opened, state, edit, objects)
    if not _has_same_edit(audit_location(to), options):
        check_new_target(to)
    job = _edit_job(images.job, edit, options, to, attempt.compute)
    stage = EditStage(
        edit,
        objects,
        to,
        find_relative_paths(opened, state.planned),
        images.job.source.fetch_options,
        images.job.source.max_pixels,
    )
    final = run_without_models(
        job,
        PlannedSource(opened, state.planned, EDIT_FIELDS),
        attempt.watcher,
        wait=attempt.wait,
        takeover=attempt.takeover,
        retry_errors=attempt.retry_errors,
        start_engine=start_work_on_ray(stage, [opened.location.uri] if opened.location.is_local else []),
    )
    delete_temporary_files(to)
    return final


def audit_location(to: Location) -> Location:
    """Where the audit of an edit is: an output like that of a run."""
    return replace(to, uri=f"{to.uri.rstrip('/')}/{AUDIT_FOLDER}")


def _options_of(opened: OpenedOutput, state: RunState, edit: Edit, objects: ObjectSelection) -> dict[str, Any]:
    """Everything that decides what is written, as plain data."""
    return {
        "edit": edit.name,
        "run": opened.plan.nonce,
        _UPDATES: [state.planned, len(state.changed) - len(state.move_parts), sum(map(_length, state.removed))],
        "model": objects.alias,
        "classes": None if objects.label_ids is None else sorted(objects.label_ids),
        "min_score": objects.min_score,
        "use_masks": objects.use_masks,
        **asdict(edit),  # type: ignore[call-overload]  # all edits are dataclasses
    }


def _length(rows: RowRange) -> int:
    return rows[1] - rows[0]


def _has_same_edit(audit: Location, options: Mapping[str, Any]) -> bool:
    """Whether there is an audit already, which must be of the same edit.

    Raises:
        OutputError: Names the first difference.
    """
    plan = load_plan(open_store(audit))
    if plan is None:
        return False
    stored = plan.job["models"][0]["options"]
    for name in {**stored, **options}:
        if stored.get(name) != options.get(name):
            if name == _UPDATES:
                raise OutputError(
                    f"{audit} is of the run before its images were updated: expected another --to, for all images"
                )
            raise OutputError(
                f"{audit} belongs to another edit: {name} is {json.dumps(stored.get(name))} there, and "
                f"{json.dumps(options.get(name))} now; choose another --to"
            )
    return True


def _edit_job(job: Job, edit: Edit, options: Mapping[str, Any], to: Location, compute: ComputeConfig | None) -> Job:
    """The job of an edit; its one model stands for the edit, so that other options are another run."""
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode()).hexdigest()[:16]
    source = job.source.model_dump(mode="json") | {"limit": None, "exif": False, "geo": False, "damaged": "error"}
    place = compute or ComputeConfig(shared_filesystem=job.compute.shared_filesystem)
    # errors of the run are errors here, too, and no reason to stop
    place = place.model_copy(update={"max_error_share": 1.0})
    return Job.model_validate(
        {
            "source": source,
            "models": [{"model": f"edit:{edit.name}:{digest}", "options": dict(options)}],
            "output": {"uri": audit_location(to).uri, **asdict(to.options)},
            "compute": place.model_dump(mode="json"),
        }
    )
