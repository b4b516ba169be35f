"""The edits as functions; each runs on Ray, and the same call resumes what was interrupted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from cvbatch.edits.answer import EditAnswer, summarize_edit
from cvbatch.edits.base import Edit
from cvbatch.edits.crops import Crops
from cvbatch.edits.cutout import Cutout
from cvbatch.edits.editing import Attempt, audit_location, edit_images
from cvbatch.edits.found_objects import ObjectSelection, find_locating_model, select_objects
from cvbatch.edits.hiding import HIDING
from cvbatch.edits.lowest_scores import RECALL_SCORE, SURE_SCORE
from cvbatch.edits.object_files import FILE_FORMATS
from cvbatch.edits.redact import Redact
from cvbatch.edits.remove import Remove, import_opencv
from cvbatch.edits.sheet import draw_near_misses
from cvbatch.errors import UsageError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.log_records import RunState
from cvbatch.output.store import open_store
from cvbatch.results.committed import OpenedOutput, Output, Storage, open_output
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.tasks import DETECTION

_SHEET: Final = "near_misses.png"
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
    request = EditRequest(output, to, classes, min_score, use_masks, model, storage, attempt)
    return request.run_edit(edit, sheet=True)


def crop_objects(
    output: Output,
    to: Output,
    *,
    classes: Classes = None,
    margin: float = 0.0,
    square: bool = False,
    extension: str = "jpg",
    min_score: float = SURE_SCORE,
    model: str | None = None,
    storage: Storage = None,
    attempt: Attempt | None = None,
) -> EditAnswer:
    """Write one file for each object, in a folder of its class.

    Args:
        output: The run.
        to: Folder or prefix of a bucket.
        classes: Names or ids; None for all.
        margin: Share of a box's width and height that is added on each side.
        square: Make squares around the middle of the boxes; black where the image ends.
        extension: `jpg`, `png` or `webp`.
        min_score: Objects with a lower score are left out.
        model: As for `redact_images`, like `storage` and `attempt`.
        storage: Options for buckets.
        attempt: How to run.

    Raises:
        OutputError: As for `redact_images`, like `UsageError` and `RunError`.
    """
    check_share("margin", margin, most=10.0)
    _check_extension(extension, FILE_FORMATS)
    request = EditRequest(output, to, classes, min_score, False, model, storage, attempt)
    return request.run_edit(Crops(margin, square, extension))


def cut_out_objects(
    output: Output,
    to: Output,
    *,
    classes: Classes = None,
    grow: float = 0.0,
    extension: str = "png",
    min_score: float = SURE_SCORE,
    model: str | None = None,
    storage: Storage = None,
    attempt: Attempt | None = None,
) -> EditAnswer:
    """Write one file for each object, transparent where its mask ends.

    Args:
        output: The run; its model must have masks.
        to: Folder or prefix of a bucket.
        classes: Names or ids; None for all.
        grow: Share of an object's width and height by which its mask is widened.
        extension: `png` or `webp`.
        min_score: Objects with a lower score are left out; segments have none.
        model: As for `redact_images`, like `storage` and `attempt`.
        storage: Options for buckets.
        attempt: How to run.

    Raises:
        OutputError: As for `redact_images`, like `UsageError` and `RunError`.
    """
    check_share("grow", grow)
    _check_extension(extension, ("png", "webp"))
    request = EditRequest(output, to, classes, min_score, True, model, storage, attempt)
    return request.run_edit(Cutout(grow, extension), needs_masks=True)


def remove_objects(
    output: Output,
    to: Output,
    *,
    classes: Classes,
    min_score: float = RECALL_SCORE,
    grow: float = 0.1,
    use_masks: bool = True,
    keep_metadata: bool = False,
    model: str | None = None,
    storage: Storage = None,
    attempt: Attempt | None = None,
) -> EditAnswer:
    """Fill objects with what surrounds them; good for small things on plain ground only.

    Args:
        output: The run.
        to: Folder or prefix of a bucket for the images; they keep their paths below the source.
        classes: Names or ids of what to remove; None for everything that the model finds.
        min_score: Objects with a lower score stay.
        grow: Share of an object's width and height that is removed around it.
        use_masks: Remove masks where the model has them; else boxes.
        keep_metadata: As for `redact_images`, like all that follow.
        model: Column prefix of the model.
        storage: Options for buckets.
        attempt: How to run.

    Raises:
        OutputError: As for `redact_images`, like `UsageError` and `RunError`.
    """
    check_share("grow", grow)
    import_opencv()
    request = EditRequest(output, to, classes, min_score, use_masks, model, storage, attempt)
    return request.run_edit(Remove(grow, keep_metadata), sheet=True)


@dataclass(frozen=True, slots=True)
class EditRequest:
    """What all edits are asked for."""

    output: Output
    to: Output
    classes: Classes
    min_score: float
    use_masks: bool
    model: str | None
    storage: Storage
    attempt: Attempt | None

    def run_edit(self, edit: Edit, *, sheet: bool = False, needs_masks: bool = False) -> EditAnswer:
        """Run an edit.

        Args:
            edit: What is done to each image.
            sheet: Whether what just missed the threshold is drawn.
            needs_masks: Whether boxes are not enough.
        """
        check_share("min_score", self.min_score)
        if self.classes is not None and not len(self.classes):
            raise UsageError("classes: expected at least one name, or all for every class that the model finds")
        opened = open_output(self.output, self.storage)
        spec = find_locating_model(opened, self.model)
        if needs_masks and spec.task == DETECTION.name and not spec.masks:
            raise UsageError(f"{spec.alias} has boxes only: expected a model with masks, or use cvbatch crops")
        objects = select_objects(opened, self.model, self.classes, self.min_score, use_masks=self.use_masks)
        to = Location.from_path_or_uri(self.to, StorageOptions.from_mapping(self.storage or {}))
        edit_images(opened, edit, objects, to, self.attempt or Attempt(SilentObserver()))
        answer = replace(summarize_edit(to), kept_from=_kept_from(spec, self.min_score))
        return _with_sheet(answer, opened, objects, to) if sheet else answer


def _with_sheet(answer: EditAnswer, opened: OpenedOutput, objects: ObjectSelection, to: Location) -> EditAnswer:
    count, picture = draw_near_misses(opened, objects)
    if picture is None:
        return replace(answer, near_misses=count)
    audit = audit_location(to)
    open_store(audit).put_object(_SHEET, picture)
    return replace(answer, near_misses=count, sheet=f"{audit}/{_SHEET}")


def check_share(name: str, value: float, most: float = 1.0) -> None:
    """Refuse a value that is no share.

    Raises:
        UsageError: Names it.
    """
    if not 0 <= value <= most:
        raise UsageError(f"{name}: expected a number from 0 to {most:g}, got {value:g}")


def _check_extension(extension: str, known: Collection[str]) -> None:
    if extension not in known:
        raise UsageError(f"format: expected {', '.join(known)}, got {extension!r}")


def _kept_from(model: ModelSpec, min_score: float) -> float | None:
    """Score from which on the run has kept boxes, if it is known and above the one that is asked for."""
    kept = model.score_threshold
    return kept if kept is not None and kept > min_score else None
