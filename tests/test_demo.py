"""The demo without its run: the archive, the contact sheet, and what decides about its exit code."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image
from rich.console import Console

from cvbatch.config.job_file import load_job
from cvbatch.demo import build_demo_job, describe_unexpected_failures, run_demo
from cvbatch.demo.archive import BROKEN_FILES, archive_names, make_photo_archive
from cvbatch.demo.contact_sheet import (
    CAPTION_HEIGHT,
    GAP,
    MARGIN,
    TILE_SIZE,
    TITLE_HEIGHT,
    choose_diverse_photos,
    draw_contact_sheet,
)
from cvbatch.demo.formats import FORMATS, FileFormat, save_as_format
from cvbatch.errors import ImageError, OutputError, UsageError
from cvbatch.images.decode import DecodedImage, decode
from cvbatch.models.resolve import resolve_models
from cvbatch.results.draw import colour_of_label
from cvbatch.sources.local_files import LocalFileSource
from cvbatch.tasks.masks import encode_mask
from cvbatch.testing import generate_image

JOBS = Path(__file__).parents[1] / "jobs"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive, made once."""
    folder = tmp_path_factory.mktemp("demo") / "photos"
    make_photo_archive(folder)
    return folder


def read_image(path: Path) -> DecodedImage | str:
    """A decoded image, or what kind of error it gave."""
    try:
        return decode(path.read_bytes(), max_pixels=10**7)
    except ImageError as error:
        return error.kind


def is_turned(path: Path) -> bool:
    """Whether an Exif block says that the picture does not lie upright."""
    with Image.open(path) as image:
        orientation: int = image.getexif().get(ExifTags.Base.Orientation, 1)
        return orientation != 1


def test_archive_is_complete_and_exactly_three_files_are_broken(archive: Path) -> None:
    found = {name: read_image(archive / name) for name in archive_names()}
    assert len(found) == 200
    assert {name: kind for name, kind in found.items() if isinstance(kind, str)} == dict(
        zip(BROKEN_FILES, ("EmptyFile", "TruncatedImage", "UnknownFormat"), strict=True)
    )
    formats = Counter(image.format for image in found.values() if isinstance(image, DecodedImage))
    assert {"jpeg", "png", "webp", "gif", "tiff", "bmp"} <= set(formats)
    assert formats["jpeg"] > 80


def test_archive_looks_like_a_real_one(archive: Path) -> None:
    names = archive_names()
    assert any(" " in name for name in names)
    assert any(not name.isascii() for name in names)
    assert max(name.count("/") for name in names) >= 2
    assert sum(is_turned(archive / name) for name in names if name not in BROKEN_FILES) >= 30


def test_source_lists_the_archive_and_skips_the_sidecars(archive: Path) -> None:
    source = LocalFileSource(str(archive))
    uris = [uri for chunk in source.iter_chunks() for uri in chunk["image_uri"].to_pylist()]
    assert sorted(uris) == sorted(str(archive / name) for name in archive_names())
    assert source.listing.skipped == {".xmp": 1, ".json": 1, ".db": 1}


def test_archive_is_the_same_again(archive: Path, tmp_path: Path) -> None:
    make_photo_archive(tmp_path / "photos")
    files = [path for path in archive.rglob("*") if path.is_file()]
    assert len(files) == 203
    again = [tmp_path / "photos" / path.relative_to(archive) for path in files]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]


def test_archive_that_is_there_is_kept(archive: Path) -> None:
    times = [path.stat().st_mtime_ns for path in sorted(archive.rglob("*"))]
    make_photo_archive(archive)
    assert [path.stat().st_mtime_ns for path in sorted(archive.rglob("*"))] == times


def test_a_folder_of_other_photos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(OutputError, match="choose another --output"):
        run_demo(str(tmp_path), Console(quiet=True))
    assert [path.name for path in tmp_path.rglob("*.*")] == ["mine.jpg"]


def test_without_scikit_image_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(UsageError, match=r"pip install 'cvbatch\[demo\]'"):
        make_photo_archive(tmp_path / "photos")
    assert not list(tmp_path.iterdir())


def test_object_storage_is_refused() -> None:
    with pytest.raises(OutputError, match="local folder"):
        run_demo("s3://bucket/demo", Console(quiet=True))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.name}-{form.orientation}")
def test_every_format_shows_the_picture_upright(form: FileFormat, tmp_path: Path) -> None:
    image = generate_image(96, 64)
    save_as_format(image, form, tmp_path / f"image.{form.suffix}")
    decoded = read_image(tmp_path / f"image.{form.suffix}")
    assert isinstance(decoded, DecodedImage)
    assert decoded.image.size == image.size
    middle = (slice(16, -16), slice(16, -16))
    grey, expected = (np.asarray(picture.convert("L"))[middle].astype(int) for picture in (decoded.image, image))
    assert np.abs(grey - expected).mean() < 12


def test_all_formats_are_used() -> None:
    suffixes = Counter(name.rpartition(".")[2] for name in archive_names())
    assert set(suffixes) == {form.suffix for form in FORMATS}


@pytest.mark.parametrize(
    ("failed", "expected"),
    [
        (BROKEN_FILES, ""),
        (BROKEN_FILES[1:], f"; did not fail: {BROKEN_FILES[0]}"),
        ([*BROKEN_FILES, "a.jpg"], "; failed too: a.jpg"),
        ([*BROKEN_FILES[1:], "a.jpg"], f"; did not fail: {BROKEN_FILES[0]}; failed too: a.jpg"),
    ],
)
def test_unexpected_failures_are_named(failed: list[str], expected: str) -> None:
    assert describe_unexpected_failures(failed).endswith(expected)
    assert bool(describe_unexpected_failures(failed)) == bool(expected)


def test_job_is_that_of_all_tasks() -> None:
    job, file = build_demo_job(Path("photos"), Path("labels")), load_job(str(JOBS / "all_tasks.yaml"))
    specs = [{spec.alias: spec for spec in resolve_models(models, fetch=False)} for models in (job.models, file.models)]
    assert specs[0] == specs[1]


@pytest.fixture
def photos(tmp_path: Path) -> pd.DataFrame:
    """Predictions for three photos, the second a turned JPEG, the third without a box."""
    rows = []
    for row_id, (size, form) in enumerate([((90, 60), FORMATS[2]), ((60, 90), FORMATS[1]), ((60, 60), FORMATS[0])]):
        width, height = size
        path = tmp_path / f"{row_id}.{form.suffix}"
        save_as_format(Image.new("RGB", size, (90, 90, 90)), form, path)
        mask = np.zeros((height, width), bool)
        mask[: height // 2] = True
        found = [] if row_id == 2 else [0]
        rows.append(
            {
                "row_id": row_id, "image_uri": str(path), "width": width, "height": height, "format": form.name,
                "classification_label": "a label that is much wider than the photo above it",
                "classification_score": 0.9 - row_id / 10,
                "embedding_vector": np.eye(3, dtype=np.float32)[row_id],
                "detection_boxes": [[0, 0, width, height / 2] for _ in found],
                "detection_labels": ["cat" for _ in found], "detection_label_ids": [7 for _ in found],
                "detection_scores": [0.8 for _ in found],
                "segmentation_masks": [encode_mask(mask) for _ in found], "segmentation_label_ids": [3 for _ in found],
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def test_contact_sheet_has_room_for_every_photo(photos: pd.DataFrame) -> None:
    sheet = draw_contact_sheet(photos, "a title " * 50, columns=2, rows=5)
    assert sheet.mode == "RGB"
    assert sheet.width == 2 * MARGIN + 2 * TILE_SIZE[0] + GAP
    assert sheet.height == 2 * MARGIN + TITLE_HEIGHT + 2 * (TILE_SIZE[1] + CAPTION_HEIGHT) + GAP


def test_contact_sheet_keeps_its_margins_clear(photos: pd.DataFrame) -> None:
    pixels = np.asarray(draw_contact_sheet(photos, "a title " * 50, columns=2))
    paper = pixels[0, 0]
    for margin in (pixels[:MARGIN], pixels[-MARGIN:], pixels[:, :MARGIN], pixels[:, -MARGIN:]):
        assert (margin == paper).all()
    gap = slice(MARGIN + TILE_SIZE[0], MARGIN + TILE_SIZE[0] + GAP)
    assert (pixels[MARGIN + TITLE_HEIGHT : -MARGIN, gap] == paper).all()


def test_contact_sheet_draws_photos_upright_with_boxes_and_masks(photos: pd.DataFrame) -> None:
    pixels = np.asarray(draw_contact_sheet(photos, "demo", columns=3)).astype(int)
    tiles = [
        pixels[MARGIN + TITLE_HEIGHT :, MARGIN + at * (TILE_SIZE[0] + GAP) :][: TILE_SIZE[1], : TILE_SIZE[0]]
        for at in range(len(photos))
    ]
    plain = np.array([90, 90, 90])
    grey = [(np.abs(tile - plain) < 6).all(axis=2) for tile in tiles]
    for tile, bare in zip(tiles[:2], grey, strict=False):
        assert (tile == colour_of_label(7)).all(axis=2).sum() > 500
        tint = np.round(0.6 * plain + 0.4 * np.array(colour_of_label(3)))
        assert (np.abs(tile - tint) < 6).all(axis=2).mean() > 0.1
        assert bare[: TILE_SIZE[1] // 2 - 4].sum() == 0
        assert bare[TILE_SIZE[1] // 2 + 6 :].sum() > 5000
    heights, widths = zip(*[(bare.any(axis=1).sum(), bare.any(axis=0).sum()) for bare in grey], strict=True)
    assert widths[0] > 1.5 * widths[1]
    assert abs(int(heights[2]) - int(widths[2])) <= 1


def test_choice_is_sure_and_different() -> None:
    vectors = [[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1]]
    frame = pd.DataFrame(
        {
            "classification_score": [0.9, 0.8, 0.5, 0.1],
            "detection_scores": [[0.9], [0.9], [], [0.2, 0.1]],
            "embedding_vector": [np.array(vector, np.float32) for vector in vectors],
        }
    )
    assert choose_diverse_photos(frame, 3) == [0, 2, 3]
    assert sorted(choose_diverse_photos(frame, 9)) == [0, 1, 2, 3]
    assert choose_diverse_photos(frame.iloc[:0], 9) == []
