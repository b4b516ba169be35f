"""Where edited files may go, and what each is called there."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import cvbatch as api
from cvbatch.edits.base import Edit
from cvbatch.edits.crops import Crops
from cvbatch.edits.found_objects import select_objects
from cvbatch.edits.names import find_relative_paths
from cvbatch.edits.redact import Redact
from cvbatch.edits.remove import Remove
from cvbatch.edits.stage import EditStage
from cvbatch.edits.target_checks import check_new_target, check_target
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import open_store
from cvbatch.results.committed import open_output
from cvbatch.results.planned_images import PlannedImages
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.edits.made_runs import Box, made_run
from tests.rigs.objects import ObjectServer

FILL = Redact("fill", 0.0)


def left_half(uri: str, width: int, height: int) -> Sequence[Box]:
    return [("person", 0.9, (0, 0, width / 2, height))]


def photo(seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(1, 256, (16, 24, 3), np.uint8)).save(file, kind, **options)
    return file.getvalue()


def edit_here(run: str, to: Location, edit: Edit = FILL) -> list[dict[str, Any]]:
    """Edit in this process; returns the rows of the audit in order."""
    opened = open_output(run)
    images, rows = PlannedImages(opened), opened.plan.rows
    source = images.job.source
    stage = EditStage(
        edit,
        select_objects(opened, None, None, 0.2),
        to,
        find_relative_paths(opened, rows),
        source.fetch_options,
        source.max_pixels,
    )
    tables = [stage(table) for table in images.iter_rows(np.arange(rows))]
    audit: list[dict[str, Any]] = pa.concat_tables(tables).sort_by("row_id").to_pylist()
    return audit


def edited_paths(run: str, to: Path, edit: Edit = FILL) -> list[str | None]:
    """Path of each image in order, None for errors; checks that they are what lies there."""
    rows = edit_here(run, Location(str(to)), edit)
    paths = [path for row in rows for path in row["edit_paths"] or [None]]
    named = [path for path in paths if path is not None]
    assert sorted(named) == sorted(str(path.relative_to(to)) for path in to.rglob("*") if path.is_file())
    assert len(set(named)) == len(named)
    return paths


def write_tar(path: Path, members: Sequence[tuple[str, bytes]], mode: Any = "w") -> None:
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_a_picture_that_becomes_jpeg_replaces_no_other(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.avif").write_bytes(photo(1, "AVIF"))
    (photos / "a.avif.jpg").write_bytes(photo(2, "JPEG"))
    (photos / "b.avif").write_bytes(photo(3, "AVIF"))
    (photos / "b.png").write_bytes(photo(4))
    (photos / "b.png.jpg").write_bytes(photo(5, "JPEG"))
    run = made_run(str(photos), str(tmp_path / "run"), left_half)
    assert edited_paths(run, tmp_path / "to") == ["a-0.avif.jpg", "a.avif.jpg", "b.avif.jpg", "b.png", "b.png.jpg"]


def test_heic_becomes_jpeg_and_the_audit_says_so(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    photos = tmp_path / "photos" / "2024"
    photos.mkdir(parents=True)
    heif.from_pillow(Image.new("RGB", (64, 48), (0, 200, 0))).save(photos / "IMG_1.HEIC", quality=90)
    (photos / "IMG_2.jpg").write_bytes(photo(1, "JPEG"))
    run = made_run(str(tmp_path / "photos"), str(tmp_path / "run"), left_half)
    first, second = edit_here(run, Location(str(tmp_path / "to")))
    assert (first["edit_paths"], first["edit_note"]) == (["2024/IMG_1.HEIC.jpg"], "heif is written as JPEG")
    assert (second["edit_paths"], second["edit_note"]) == (["2024/IMG_2.jpg"], None)
    picture = Image.open(tmp_path / "to" / "2024" / "IMG_1.HEIC.jpg")
    assert (picture.format, picture.size) == ("JPEG", (64, 48))
    assert picture.getpixel((8, 20)) == (0, 0, 0)
    assert np.allclose(picture.getpixel((56, 20)), (0, 200, 0), atol=12)


def test_members_of_archives_lie_in_folders_of_their_names(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    same = [(name, photo(seed)) for seed, name in enumerate(["./x.png", "sub/x.png", "y.png", "y.png", "y-2.png"])]
    write_tar(photos / "a.tar", [*same, ("../out.png", photo(9)), ("/etc/out.png", photo(9))])
    with zipfile.ZipFile(photos / "b.zip", "w") as archive:
        archive.writestr("x.png", photo(10))
    shard = [("k1.jpg", photo(11, "JPEG")), ("k1.cls", b"1"), ("k2.jpg", photo(12, "JPEG"))]
    write_tar(photos / "shard-0.tar.gz", shard, "w:gz")
    run = made_run(str(photos), str(tmp_path / "run"), left_half)
    assert edited_paths(run, tmp_path / "to") == [
        "a.tar/x.png",
        "a.tar/sub/x.png",
        "a.tar/y--2.png",  # a single dash would make the name of another one
        "a.tar/y--3.png",
        "a.tar/y-2.png",
        None,
        None,
        "b.zip/x.png",
        "shard-0.tar.gz/k1.jpg",
        "shard-0.tar.gz/k2.jpg",
    ]
    assert not (tmp_path / "out.png").exists()
    alone = made_run(str(photos / "b.zip"), str(tmp_path / "alone"), left_half)
    assert edited_paths(alone, tmp_path / "to-alone") == ["x.png"]
    crops = edited_paths(run, tmp_path / "crops", Crops(0.0, False, "png"))
    assert crops[2:4] == ["person/a.tar/y--2.png-0.png", "person/a.tar/y--3.png-0.png"]


def test_several_sources_keep_their_names(tmp_path: Path) -> None:
    for folder in ("x/one", "x/two", "y/two"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.png").write_bytes(photo())
    uris = [str(tmp_path / folder) for folder in ("x/one", "x/two", "y/two")]
    run = made_run(uris[0], str(tmp_path / "run"), left_half, source={"uri": uris})
    assert edited_paths(run, tmp_path / "to") == ["one/a.png", "two/a-1.png", "two/a-2.png"]


def test_images_in_error_and_removed_images_are_error_rows(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, data in (("a.png", photo(1)), ("b.png", b"no image"), ("c.png", photo(2))):
        (photos / name).write_bytes(data)
    run = made_run(str(photos), str(tmp_path / "run"), left_half)
    log = CommitLog(open_store(run), 3)
    log.open_epoch()
    log.remove_rows([(2, 3)])
    finish_run(log)
    rows = edit_here(run, Location(str(tmp_path / "to")))
    assert [row["error_type"] for row in rows] == [None, "TruncatedImage", "RemovedFromSource"]
    assert [path.name for path in (tmp_path / "to").iterdir() if path.is_file()] == ["a.png"]


@pytest.mark.parametrize("edit", [FILL, Remove(0.0), Crops(0.0, False, "png")])
def test_an_image_has_files_or_an_error_and_not_both(tmp_path: Path, edit: Edit) -> None:
    """A killed attempt has stored files of images that change before they are edited once more."""
    pytest.importorskip("cv2", reason="the extra opencv is not installed")
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, data in (("a.png", photo(1)), ("b.avif", photo(2, "AVIF")), ("c.png", photo(3)), ("d.png", photo(4))):
        (photos / name).write_bytes(data)
    run = made_run(str(photos), str(tmp_path / "run"), left_half)
    assert len(edited_paths(run, tmp_path / "to", edit)) == 4
    (photos / "a.png").write_bytes(photo(9))
    (photos / "b.avif").write_bytes(photo(9))
    (photos / "c.png").unlink()
    paths = edited_paths(run, tmp_path / "to", edit)
    assert paths[:3] == [None, None, None]
    assert paths[3] is not None


@pytest.mark.parametrize(
    ("source", "to", "is_apart"),
    [
        ("/data/*/photos", "/data/a/photos/new", False),
        ("/data/*.jpg", "/data/new", True),
        ("/data/**/*.jpg", "/data/new", False),
        ("/data/*", "/data/new", False),
        ("/data/2024-*", "/data/new", True),
        ("/data/[x]", "/data/[x]/new", False),
        ("/data/list.csv", "/data/new", True),
        ("s3://bucket/a", "s3://bucket/ab", True),
        ("s3://bucket/a", "s3://bucket/a/b", False),
        ("s3://bucket/*.tar", "s3://bucket", False),
    ],
)
def test_no_source_may_take_edited_files_for_its_own(source: str, to: str, is_apart: bool) -> None:
    place, run = Location.from_uri(to), Location("/runs/run")
    if is_apart:
        check_target(place, [source], run)
        return
    with pytest.raises(api.CvbatchError, match="apart from the source"):
        check_target(place, [source], run)


def test_a_new_edit_needs_a_new_place(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "mine.jpg").write_bytes(b"x")
    (tmp_path / "edited" / "_audit" / "_cvbatch").mkdir(parents=True)
    (tmp_path / "run" / "_cvbatch").mkdir(parents=True)
    for to, message in (
        ("files", "other files, such as mine.jpg"),
        ("files/mine.jpg", "no folder"),
        ("edited/new/place", f"is in the output {tmp_path}/edited/_audit"),
        ("run/data", f"is in the output {tmp_path}/run"),
    ):
        with pytest.raises(api.CvbatchError, match=message):
            check_new_target(Location(str(tmp_path / to)))
    (tmp_path / "empty" / "_audit").mkdir(parents=True)
    for to in ("new", "empty", "new/place"):
        check_new_target(Location(str(tmp_path / to)))


def test_a_bucket_gets_what_it_can_name(tmp_path: Path, as_job: ObjectServer, out: str) -> None:
    photos = tmp_path / "photos"
    deep = photos.joinpath(*("n" * 200 for _ in range(6)))
    deep.mkdir(parents=True)
    for number, name in enumerate((b"a.png", "ü #?%20.png".encode(), b"bad\xff.png", b"control\x01.png")):
        Path(os.fsdecode(bytes(photos) + b"/" + name)).write_bytes(photo(number))
    (deep / "deep.png").write_bytes(photo(7))
    run = made_run(str(photos), str(tmp_path / "run"), left_half)
    options = StorageOptions.from_mapping({"endpoint_url": as_job.endpoint})
    for prefix, slash in (("to", ""), ("to/", "/")):
        as_job.empty(out)
        rows = edit_here(run, Location.from_uri(f"s3://{out}/to{slash}", options))
        assert [row["error_type"] for row in rows].count("NameNotPossible") == 3
        assert {f"to/{path}" for row in rows for path in row["edit_paths"] or ()} == set(as_job.content(out))
        assert set(as_job.content(out)) == {"to/a.png", "to/ü #?%20.png"}, prefix
    place = Location.from_uri(f"s3://{out}/to", options)
    (photos / "ü #?%20.png").unlink()
    edit_here(run, place)
    assert set(as_job.content(out)) == {"to/a.png"}, "an image in error has no file of an earlier attempt"
    with pytest.raises(api.CvbatchError, match=r"other files, such as a\.png"):
        check_new_target(place)
    as_job.put(out, {"edited/_audit/_cvbatch/plan.json": b"{}"})
    check_new_target(Location.from_uri(f"s3://{out}/edited", options))
    with pytest.raises(api.CvbatchError, match=f"is in the output s3://{out}/edited/_audit"):
        check_new_target(Location.from_uri(f"s3://{out}/edited/new", options))
    check_new_target(Location.from_uri(f"s3://{out}/new", options))
