"""What a report shows is what the run has: counts, shares, errors, chosen images, and their pictures."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cvbatch.errors import RowError
from cvbatch.report.collect import CollectedPage, ReportOptions, collect_page_data
from cvbatch.report.folder import ReportFolder, place_report
from cvbatch.report.page_data import GalleryImage, LabelShares, PageData
from tests.report.runs import BYTES_NAME, MESSAGE, NASTY_NAME, SIZE, SmallRun, save_photo, small_run

NAMES = [f"{'ab'[row % 2]}/{row:02d}.jpg".encode() for row in range(12)]
BROKEN = RowError("decode", "TruncatedImage", MESSAGE, transient=False)


def collect(run: SmallRun, **options: Any) -> CollectedPage:
    return collect_page_data(run.opened, place_report(run.opened, None), ReportOptions(**options))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    """Twelve images in two folders; row 5 has failed."""
    return small_run(tmp_path_factory.mktemp("run"), NAMES, failed={5: BROKEN})


@pytest.fixture(scope="module")
def page(run: SmallRun) -> PageData:
    return collect(run).data


def test_labels_are_counted_without_failed_images(page: PageData) -> None:
    tags, boxes = page.labels
    counts = {count.label: (count.images, count.elements) for count in tags.counts}
    assert counts == {"cat": (3, 3), "__proto__": (2, 2), "</script><b>": (3, 3), "dog": (3, 3)}
    counts = {count.label: (count.images, count.elements) for count in boxes.counts}
    assert counts == {"cat": (3, 3), "__proto__": (2, 2), "</script><b>": (3, 3), "dog": (6, 6)}
    assert boxes.counts[0].label == "dog"
    scores = [0.3 + 0.69 * row / 11 for row in (0, 4, 8)]
    assert tags.counts[0].mean_score == pytest.approx(np.mean(scores), abs=1e-4)
    assert tags.histogram is not None
    assert sum(tags.histogram.counts) == 11
    assert [place for place, count in enumerate(tags.histogram.by_label["cat"]) if count] == [
        int(score * 50) for score in scores
    ]


def test_shares_over_folders_and_over_time(page: PageData) -> None:
    folders, months = page.labels[0].shares
    assert (folders.group, folders.groups, folders.images) == ("folder", ["a", "b"], [5, 6])
    assert folders.labels[0] == "cat"
    assert [shares[0] for shares in folders.shares] == [0.4, 0.1667]
    assert months.groups == ["2024-01", "2024-02", "2024-03"]
    assert months.group == "month of capture (11 of the images below)"
    assert months.images == [4, 3, 4]
    assert share_of(page.labels[1].shares[1], "2024-01", "dog") == 0.75


def share_of(shares: LabelShares, group: str, label: str) -> float:
    return shares.shares[shares.groups.index(group)][shares.labels.index(label)]


def test_what_went_wrong(page: PageData) -> None:
    (group,) = page.errors
    assert (group.error_type, group.images) == ("TruncatedImage", 1)
    assert group.advice == "copy it again, or source.damaged: keep"
    assert group.examples[0].image_uri.endswith("/a/10.jpg")
    assert group.examples[0].message == MESSAGE
    failed = image_of(page, 5)
    assert (failed.status, failed.reason, failed.thumbnail) == ("error", "error", None)
    assert failed.message == f"TruncatedImage: {MESSAGE}"


def image_of(page: PageData, row_id: int) -> GalleryImage:
    return next(image for image in page.gallery if image.row_id == row_id)


def test_images_have_labels_boxes_and_outlines(run: SmallRun, page: PageData) -> None:
    image = image_of(page, 8)
    assert (image.name, image.folder, image.uri) == ("b/05.jpg", "b", run.files[8])
    assert image.link == Path(run.files[8]).as_uri()
    best, second, box, other = image.elements
    assert [element.label for element in image.elements] == ["cat", "__proto__", "cat", "dog"]
    assert best.score == pytest.approx(0.3 + 0.69 * 8 / 11, abs=1e-4)
    assert second.score == pytest.approx(1 - (0.3 + 0.69 * 8 / 11), abs=1e-4)
    assert box.box == (0.25, 0.25, 0.75, 0.75)
    (outline,) = box.outline
    assert sorted(zip(outline[::2], outline[1::2], strict=True)) == [
        (0.25, 0.25),
        (0.25, 0.75),
        (0.75, 0.25),
        (0.75, 0.75),
    ]
    assert other.box == (0, 0, 0.125, round(8 / 48, 4))


def test_the_head_says_what_was_run_and_whether_it_is_whole(run: SmallRun, page: PageData) -> None:
    head = page.head
    assert (head.title, head.sources) == ("out", [run.root])
    assert [(card.alias, card.task, card.categories) for card in head.models] == [
        ("tags", "classification", 4),
        ("boxes", "detection", 4),
        ("vectors", "embedding", 0),
    ]
    assert {"images": "12 of 12", "failed": "1"}.items() <= {fact.name: fact.value for fact in head.facts}.items()
    assert not head.is_complete
    assert "the run is not finished" in head.completeness


def test_images_are_chosen_for_a_reason_and_differ(tmp_path: Path) -> None:
    vectors = np.eye(40)
    vectors[20:] = vectors[19] * np.linspace(1, 2, 20)[:, None]  # the last images look the same
    run = small_run(tmp_path, [f"{row:02d}.jpg".encode() for row in range(40)], vectors=vectors, failed={3: BROKEN})
    page = collect(run, images=20).data
    reasons = {image.row_id: image.reason for image in page.gallery}
    assert len(reasons) == 20
    assert reasons[3] == "error"
    assert set(reasons.values()) == {"duplicates", "error", "rare class", "unsure", "sure"}
    assert len([row for row, reason in reasons.items() if row >= 19 and reason != "duplicates"]) <= 1
    assert "20 of 40 images are shown; the counts are those of all images." in page.notes


def test_pictures_are_small_and_upright(tmp_path: Path) -> None:
    run = small_run(tmp_path, NAMES[:2])
    folder = ReportFolder(place_report(run.opened, None).location)
    page = collect(run).data
    name = image_of(page, 0).thumbnail
    assert name is not None
    with Image.open(io.BytesIO(folder.read(name) or b"")) as picture:
        assert (picture.format, picture.size) == ("WEBP", SIZE)


def test_a_second_report_draws_what_is_new_and_removes_what_is_not_shown(tmp_path: Path) -> None:
    run = small_run(tmp_path, NAMES, rows=6)
    first = collect(run)
    assert (first.thumbnails.drawn, len(first.thumbnails.files)) == (6, 6)
    again = collect(run)
    assert (again.thumbnails.drawn, again.thumbnails.files) == (0, first.thumbnails.files)
    assert again.data == first.data
    save_photo(run.files[2], 99)
    os.unlink(place_report(run.opened, None).path_of(first.thumbnails.files[2]))
    os.unlink(place_report(run.opened, None).path_of(first.thumbnails.files[4]))
    third = collect(run)
    assert third.thumbnails.drawn == 1
    assert dict(third.thumbnails.problems) == {"the image has changed since": 1}
    assert image_of(third.data, 2).thumbnail is None


def test_images_out_of_reach_are_shown_without_pictures_and_one_note_says_so(tmp_path: Path) -> None:
    run = small_run(tmp_path, NAMES)
    os.rename(run.root, f"{run.root}-gone")
    page = collect(run).data
    assert [image.thumbnail for image in page.gallery] == [None] * 12
    (note,) = [note for note in page.notes if "pictures" in note]
    assert note.startswith("No image can be read any more, so there are no pictures: NotFound: ")


def test_names_that_are_markup_or_no_text(tmp_path: Path) -> None:
    run = small_run(tmp_path, [BYTES_NAME, NASTY_NAME.encode()])
    page = collect(run).data
    images = {image.name: image for image in page.gallery}
    assert set(images) == {r"caf\xe9.jpg", NASTY_NAME}
    assert all(image.thumbnail for image in images.values())
    assert images[r"caf\xe9.jpg"].link is None
    assert images[NASTY_NAME].link == Path(run.root, NASTY_NAME).as_uri()


def test_a_run_without_any_row_yet(tmp_path: Path) -> None:
    page = collect(small_run(tmp_path, NAMES, rows=0)).data
    assert (page.gallery, page.errors, page.notes) == ([], [], [])
    assert [section.counts for section in page.labels] == [[], []]
    assert page.head.completeness.startswith("0 of 12 planned images have a row: rows 0 to 11 are missing")
