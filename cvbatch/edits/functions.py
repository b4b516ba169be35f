"""The edits as functions; each runs on Ray, and the same call resumes what was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from cvbatch.edits.answer import EditAnswer, summarize_edit
from cvbatch.edits.base import Edit
from cvbatch.edits.editing import Attempt, edit_images
from cvbatch.edits.found_objects import find_locating_model, select_objects
from cvbatch.edits.hiding import HIDING
from cvbatch.edits.redact import Redact
from cvbatch.errors import UsageError
from cvbatch.output.log_records import RunState
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions

RECALL_SCORE = 0.2
"""Lowest score for `redact` and `remove` by default: what is missed can be seen by everybody."""
SURE_SCORE = 0.5
"""Lowest score where a wrong box costs more than a missed one."""
Classes = Sequence[str | int] | None


class SilentObserver:
    """A `RunObserver` that says nothing."""

    def on_phase(self, description: str) -> None:
        """See `RunObserver`."""

    def on_planned(self, state: RunState) -> None:
        """See `RunObserver`."""

    def on_committed(self, state: RunState) -> None:
        """See `RunObserver`."""


def redact_images(
    output: Output,
    to: Output,
    *,
    classes: Classes,
    how: Literal["blur", "pixelate", "fill"] = "blur",
    min_score: float = RECALL_SCORE,
    grow: float = 0.1,
    use_masks: bool = True,
    keep_metadata: bool = False,
    model: str | None = None,
    storage: Storage = None,
    attempt: Attempt | None = None,
) -> EditAnswer:
    """Hide objects in all images of a run, without running a model.

    Args:
        output: The run.
        to: Folder or prefix of a bucket for the images; they keep their paths below the source.
        classes: Names or ids of what to hide; None for everything that the model finds.
        how: `blur`, `pixelate` or `fill`.
        min_score: Objects with a lower score stay visible.
        grow: Share of an object's width and height that is hidden around it.
        use_masks: Hide masks where the model has them; else boxes.
        keep_metadata: Keep Exif and XMP, with the place where a photo was taken.
        model: Column prefix of the model; None if only one finds objects.
        storage: Options for buckets, of `output` and of `to`.
        attempt: How to run.

    Raises:
        OutputError: If there is no finished run, or `to` holds another edit.
        UsageError: If an option is wrong.
        RunError: If the edit did not finish; the same call resumes.
    """
    check_share("grow", grow)
    if how not in HIDING:
        raise UsageError(f"how: expected {', '.join(HIDING)}, got {how!r}")
    edit = Redact(how, grow, keep_metadata)
    return _run_edit(edit, output, to, classes, min_score, use_masks, model, storage, attempt)


def check_share(name: str, value: float, most: float = 1.0) -> None:
    """Refuse a value that is no share.

    Raises:
        UsageError: Names it.
    """
    if not 0 <= value <= most:
        raise UsageError(f"{name}: expected a number from 0 to {most:g}, got {value:g}")


def _run_edit(
    edit: Edit,
    output: Output,
    to: Output,
    classes: Classes,
    min_score: float,
    use_masks: bool,
    model: str | None,
    storage: Storage,
    attempt: Attempt | None,
) -> EditAnswer:
    check_share("min_score", min_score)
    opened = open_output(output, storage)
    objects = select_objects(opened, model, classes, min_score, use_masks=use_masks)
    target = Location.from_path_or_uri(to, StorageOptions.from_mapping(storage or {}))
    edit_images(opened, edit, objects, target, attempt or Attempt(SilentObserver()))
    return replace(summarize_edit(target), kept_from=_kept_from(opened, objects.alias, min_score))


def _kept_from(opened: OpenedOutput, alias: str, min_score: float) -> float | None:
    """Score from which on the run has kept boxes, if it is known and above the one that is asked for."""
    kept = find_locating_model(opened, alias).score_threshold
    return kept if kept is not None and kept > min_score else None
