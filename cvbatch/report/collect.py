"""Everything that the page of a report shows, read from a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cvbatch.models.spec import ModelSpec
from cvbatch.output.commit_log import CommitLog
from cvbatch.planning.moved import current_uris
from cvbatch.report.choosing import choose_images
from cvbatch.report.counting import RunCounts, count_run
from cvbatch.report.failures import skipped_files
from cvbatch.report.folder import ReportFolder
from cvbatch.report.gallery import ShownImage, read_gallery, with_thumbnails
from cvbatch.report.head import describe_run
from cvbatch.report.image_names import ImageNames
from cvbatch.report.label_shares import CAPTURED_AT
from cvbatch.report.label_values import label_readers
from cvbatch.report.maps import draw_maps
from cvbatch.report.page_data import AnswerSection, GalleryImage, PageData, ReportHead
from cvbatch.report.sampled_months import add_sampled_months
from cvbatch.report.section_base import SectionRequest, keep_shown
from cvbatch.report.sections import choose_examples, make_sections
from cvbatch.report.thumbnails import Thumbnails, update_thumbnails
from cvbatch.results.committed import OpenedOutput, Output, Storage
from cvbatch.runs.run_record import load_record
from cvbatch.tasks import EMBEDDING
from cvbatch.truth.base import TruthOptions

IMAGES = 240
"""Most images of a page by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What a report is made of."""

    images: int = IMAGES
    """Most images of the page."""
    truth: Output | None = None
    """Annotations to evaluate with."""
    reference: Output | None = None
    """Another run to compare with."""
    storage: Storage = None
    """Options for an object store."""
    cluster: bool | None = False
    """Whether a cluster draws the pictures beside the data; None to decide by how many they are."""
    picture: str | None = None
    """File below the page that comes first."""
    report: Callable[[int, int], None] = lambda done, images: None
    """Receives the number of pictures that are drawn, and of all that are missing."""
    truth_options: TruthOptions = field(default_factory=TruthOptions)
    """How the truth is read."""
    head: ReportHead | None = None
    """Replaces the description of the run."""
    sections: Sequence[AnswerSection] = ()
    """Come before the answers that the run has."""
    change_image: Callable[[GalleryImage], GalleryImage] = lambda image: image
    """Adds what the run does not know of an image."""


@dataclass(frozen=True, slots=True)
class CollectedPage:
    """The page, and the pictures that belong to it."""

    data: PageData
    thumbnails: Thumbnails


def collect_page_data(opened: OpenedOutput, folder: ReportFolder, options: ReportOptions) -> CollectedPage:
    """Read a run, and draw the pictures that the folder of the report does not have yet.

    Args:
        opened: The run; it may still go on.
        folder: Of the report.
        options: What to show.
    """
    log, record = CommitLog(opened.store, opened.plan.rows), load_record(opened.store)
    names = ImageNames(current_uris(opened.plan, log.state))
    counts = count_run(opened, names, options.images)
    request = SectionRequest(
        output=opened.location,
        opened=opened,
        names=names,
        truth=options.truth,
        truth_options=options.truth_options,
        reference=options.reference,
        storage=options.storage,
    )
    answers = [*options.sections, *make_sections(request)]
    examples = choose_examples(answers, options.images)
    reasons = choose_images(opened, counts.candidates, options.images, find_embedding(opened), examples)
    shown = read_gallery(opened, names, reasons)
    thumbnails = update_thumbnails(
        opened,
        folder,
        {image.image.row_id: image.sha256 for image in shown if image.sha256 is not None},
        options.images,
        cluster=options.cluster,
        report=options.report,
    )
    gallery, labels = [options.change_image(image) for image in with_thumbnails(shown, thumbnails.files)], counts.labels
    if CAPTURED_AT not in opened.schema.names:
        multiple = [model.alias for model in opened.plan.models if f"{model.alias}_labels" in opened.schema.names]
        labels = add_sampled_months(labels, gallery, thumbnails.months, multiple)
    data = PageData(
        head=options.head or describe_run(opened, log, record, options.picture),
        errors=counts.errors,
        skipped=skipped_files(record, opened.plan.skipped),
        labels=labels,
        gallery=gallery,
        maps=draw_maps(opened, find_embedding(opened), label_readers(opened.plan.models), reasons),
        answers=[keep_shown(section, reasons) for section in answers],
        notes=[*counts.notes, *_notes(counts, shown, thumbnails)],
    )
    return CollectedPage(data, thumbnails)


def find_embedding(opened: OpenedOutput) -> ModelSpec | None:
    """The first embedding model of a run, or None."""
    return next((model for model in opened.plan.models if model.task == EMBEDDING.name), None)


def _notes(counts: RunCounts, shown: list[ShownImage], thumbnails: Thumbnails) -> list[str]:
    notes = []
    present = counts.rows.usable + counts.rows.failed
    if len(shown) < present:
        notes.append(f"{len(shown):,} of {present:,} images are shown; the counts are those of all images.")
    if thumbnails.problems:
        reason, _ = thumbnails.problems.most_common(1)[0]
        missing = sum(image.sha256 is not None for image in shown) - len(thumbnails.files)
        whose = "No image" if not thumbnails.files else f"{missing:,} of the images shown"
        verb = "can be read any more, so there are no pictures" if not thumbnails.files else "cannot be read any more"
        notes.append(f"{whose} {verb}: {reason}")
    if counts.rows.removed:
        notes.append(f"{counts.rows.removed:,} images that were removed from the source do not take part.")
    return notes
