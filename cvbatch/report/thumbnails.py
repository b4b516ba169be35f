"""The small pictures in the folder of a report: what is new is drawn, what is there is kept, the rest is removed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from cvbatch.report.drawing_place import draw_where_best
from cvbatch.report.folder import THUMBNAILS, ReportFolder
from cvbatch.results.committed import OpenedOutput

_TOTAL_BYTES: Final = 3_400_000
"""Of all pictures; the page has the rest of 5 MB."""
_LARGEST: Final = 24_000
_GIVEN_UP: Final = 8
"""If so many images cannot be read one after the other from the first, the source is out of reach."""
_HASH_DIGITS: Final = 12
_NAME: Final = re.compile(rf"{THUMBNAILS}/(\d+)-([0-9a-f]+)-(\d+)(?:-(\d{{4}}-\d\d))?\.webp")
"""Row id, content and largest size; and the month of capture."""

Report = Callable[[int, int], None]


@dataclass(slots=True)
class Thumbnails:
    """The small pictures of a report."""

    files: dict[int, str] = field(default_factory=dict)
    """By row id."""
    months: dict[int, str] = field(default_factory=dict)
    """When images were captured, by row id, where they say it."""
    drawn: int = 0
    """How many were drawn now."""
    bytes: int = 0
    """Of all of them."""
    problems: Counter[str] = field(default_factory=Counter)
    """Why images have none, with how many."""


def update_thumbnails(
    opened: OpenedOutput,
    folder: ReportFolder,
    hashes: Mapping[int, str],
    most_images: int,
    *,
    cluster: bool | None = False,
    report: Report = lambda done, images: None,
) -> Thumbnails:
    """Draw the pictures that are missing.

    Args:
        opened: The run.
        folder: Of the report.
        hashes: `content_sha256` of each image that is shown, by row id.
        most_images: Most images that this report may show; each gets an equal part of the bytes.
        cluster: Whether the cluster draws; see `draw_where_best`.
        report: Receives the number of pictures that are drawn, and of all that are missing.
    """
    thumbnails, max_bytes = Thumbnails(), min(_LARGEST, _TOTAL_BYTES // max(most_images, 1))
    prefixes = {_name_prefix(row_id, sha256, max_bytes): row_id for row_id, sha256 in hashes.items()}
    for name, size in folder.list_sizes(THUMBNAILS).items():
        match = _NAME.fullmatch(name)
        row_id = prefixes.get("-".join(match.group(1, 2, 3))) if match else None
        if match and row_id is not None:
            thumbnails.files[row_id] = name
            thumbnails.bytes += size
            if match[4]:
                thumbnails.months[row_id] = match[4]
    missing = {row_id: sha256 for row_id, sha256 in hashes.items() if row_id not in thumbnails.files}
    for done, image in enumerate(draw_where_best(opened, missing, max_bytes, cluster), 1):
        report(done, len(missing))
        if image.data is None:
            thumbnails.problems[image.problem or "unknown"] += 1
            if done == _GIVEN_UP and not thumbnails.files:
                break
            continue
        thumbnails.drawn += 1
        thumbnails.bytes += len(image.data)
        if image.month is not None:
            thumbnails.months[image.row_id] = image.month
        prefix = _name_prefix(image.row_id, hashes[image.row_id], max_bytes)
        month = f"-{image.month}" if image.month else ""
        thumbnails.files[image.row_id] = f"{THUMBNAILS}/{prefix}{month}.webp"
        folder.write(thumbnails.files[image.row_id], image.data)
    return thumbnails


def remove_other_thumbnails(folder: ReportFolder, thumbnails: Thumbnails) -> int:
    """Remove the pictures that the page does not show any more; returns their number."""
    kept = set(thumbnails.files.values())
    others = [name for name in folder.list_sizes(THUMBNAILS) if _NAME.fullmatch(name) and name not in kept]
    for name in others:
        folder.remove(name)
    return len(others)


def _name_prefix(row_id: int, sha256: str, max_bytes: int) -> str:
    return f"{row_id}-{sha256[:_HASH_DIGITS]}-{max_bytes}"
