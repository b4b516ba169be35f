"""`cvbatch report`: a page that shows a run, with small pictures beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from PIL import Image

from cvbatch.errors import UsageError
from cvbatch.report.collect import IMAGES, CollectedPage, ReportOptions, collect_page_data
from cvbatch.report.drawing import encode_thumbnail
from cvbatch.report.fitting import FOLDER_BYTES, PAGE_BYTES, fit_page
from cvbatch.report.folder import PAGE, ReportFolder, place_report
from cvbatch.report.thumbnails import remove_other_thumbnails
from cvbatch.results.committed import Output, Storage, open_output

MOST_IMAGES: Final = 1000
"""More pictures would be too small to see anything."""
_PICTURE: Final = "picture.webp"
_PICTURE_SIDE: Final = 1600
_PICTURE_BYTES: Final = 350_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportAnswer:
    """A page that was written."""

    path: str
    """Of the page."""
    link: str | None
    """What a browser of this machine opens; None for a page in a bucket."""
    images: int
    """Images on the page."""
    thumbnails: int
    """Those with a small picture."""
    drawn: int
    """Small pictures that were drawn now; the others were there."""
    removed: int
    """Small pictures of an earlier page that were removed."""
    bytes: int
    """Of the page itself."""
    sections: list[str]
    """Answers that the page shows."""
    notes: list[str]
    """What the page leaves out, and why."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def write_report(
    output: Output,
    *,
    to: Output | None = None,
    truth: Output | None = None,
    reference: Output | None = None,
    images: int = IMAGES,
    picture: str | None = None,
    cluster: bool | None = None,
    storage: Storage = None,
    report: Callable[[int, int], None] = lambda done, images: None,
) -> ReportAnswer:
    """Write a page that shows a run: labels, errors, chosen images, and answers to questions about it.

    A run that still goes on can be shown, too. Small pictures of an earlier page are kept where they still fit; the
    page is written last, in one step.

    Args:
        output: The output location.
        to: Folder of the page, on a disk or in a bucket; None for `_report` below the output.
        truth: File or folder with truth to evaluate with; as for `evaluate`.
        reference: Output of another run: compared image by image if it is over the same images, else whether the
            images are alike.
        images: Most images on the page; all pictures together stay below 3.4 MB.
        picture: A picture of the whole run that comes first, a file on this machine.
        cluster: Whether the Ray cluster that `RAY_ADDRESS` names draws the pictures, beside the data; None to use it
            if there is one that can read the images, and at least 64 are to be drawn.
        storage: Options for an object store.
        report: Receives the number of pictures that are drawn, and of all that are missing.

    Raises:
        OutputError: If there is no run, or the folder cannot be written.
        UsageError: If an option is wrong.
        RunError: If the cluster does not answer.
    """
    check_image_count(images)
    opened = open_output(output, storage)
    folder = place_report(opened, to, storage)
    options = ReportOptions(
        images=images,
        truth=truth,
        reference=reference,
        storage=storage,
        cluster=cluster,
        picture=None if picture is None else _write_picture(folder, picture),
        report=report,
    )
    page = collect_page_data(opened, folder, options)
    return write_page(folder, page)


def check_image_count(images: int) -> None:
    """Check how many images a page shall show.

    Raises:
        UsageError: If these are too many or none.
    """
    if not 1 <= images <= MOST_IMAGES:
        raise UsageError(f"expected from 1 to {MOST_IMAGES} images, got {images}")


def write_page(folder: ReportFolder, page: CollectedPage) -> ReportAnswer:
    """Write a page whose pictures are drawn, and remove those of an earlier one.

    Args:
        folder: Of the report.
        page: What it shows.

    Raises:
        OutputError: If the folder cannot be written.
    """
    data, content = fit_page(page.data, min(PAGE_BYTES, FOLDER_BYTES - page.thumbnails.bytes - _PICTURE_BYTES))
    if folder.read(PAGE) != content:
        folder.write(PAGE, content)
    return ReportAnswer(
        path=folder.path_of(PAGE),
        link=Path(folder.path_of(PAGE)).as_uri() if folder.location.is_local else None,
        images=len(data.gallery),
        thumbnails=len(page.thumbnails.files),
        drawn=page.thumbnails.drawn,
        removed=remove_other_thumbnails(folder, page.thumbnails),
        bytes=len(content),
        sections=[section.title for section in data.answers],
        notes=data.notes,
    )


def _write_picture(folder: ReportFolder, picture: str) -> str:
    """Write the first picture in a size for a page; returns its name."""
    try:
        with Image.open(picture) as image:
            rgb = image.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        raise UsageError(f"{picture} cannot be read as a picture: {error}") from None
    content = encode_thumbnail(rgb, _PICTURE_BYTES, _PICTURE_SIDE)
    if folder.read(_PICTURE) != content:
        folder.write(_PICTURE, content)
    return _PICTURE
