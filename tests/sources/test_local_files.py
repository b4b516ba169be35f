"""Images below a folder: each is listed once, whatever its name and whatever links to it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import RowError, SourceError, capture_row_error
from cvbatch.schema import ETAG, LOCATION, MODIFIED, RESERVED_COLUMNS, SPAN
from cvbatch.sources import entries, open_source
from cvbatch.sources.entries import ENTRY_FIELDS, INTERNAL
from cvbatch.sources.fetch.plan_rows import plan_fetches
from cvbatch.sources.local_files import LocalFileSource
from tests.sources.fetch.test_local import as_nobody


def source(uri: Path | str, **options: Any) -> LocalFileSource:
    result = open_source(SourceConfig(uri=str(uri), **options))
    assert isinstance(result, LocalFileSource)
    return result


def listed(opened: LocalFileSource) -> pa.Table:
    return pa.concat_tables([pa.schema(ENTRY_FIELDS).empty_table(), *opened.iter_chunks()])


def names(root: Path, uri: Path | str | None = None, **options: Any) -> list[str]:
    uris = listed(source(uri or root, **options))["image_uri"].to_pylist()
    return [os.path.relpath(result, root) for result in uris]


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(path.encode())


def test_folders_are_walked_in_one_order(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.jpg", "b/1.png", "a/x/3.webp", "z.JPG", "a.jpeg", "a/y.TIFF")
    assert names(tmp_path) == ["a.jpeg", "z.JPG", "a/y.TIFF", "a/x/3.webp", "b/1.png", "b/2.jpg"]


def test_size_and_time_of_each_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    [row] = listed(source(tmp_path)).to_pylist()
    fact = os.stat(tmp_path / "a.jpg")
    assert row == {
        "image_uri": f"{tmp_path}/a.jpg",
        "image_bytes": fact.st_size,
        LOCATION: None,
        MODIFIED: fact.st_mtime_ns,
        ETAG: None,
        SPAN: None,
    }


def test_other_files_are_counted_and_hidden_files_ignored(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.xmp", "b.XMP", "Thumbs.db", "README", ".hidden.jpg", ".cache/x.jpg", "notes.")
    opened = source(tmp_path)
    for _ in range(2):  # a second listing starts from the beginning
        assert listed(opened).num_rows == 1
        assert opened.listing.skipped == {".xmp": 2, ".db": 1, "no suffix": 2}


def test_extensions(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.DAT", "c")
    assert names(tmp_path, extensions="any") == ["a.jpg", "b.DAT", "c"]
    assert names(tmp_path, extensions=(".dat",)) == ["b.DAT"]


@pytest.mark.parametrize(
    "name", ["a b.jpg", 'it\'s "so".jpg', "50%.jpg", "a#1?.jpg", "two\nlines.jpg", "größe.jpg", "[1].jpg", "a\\xe9.jpg"]
)
def test_names_are_unchanged(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    assert names(tmp_path) == [name]
    assert names(tmp_path, tmp_path / name) == [name]


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    with open(raw, "wb"):
        pass
    touch(tmp_path, "caf\\xe9.jpg")
    rows = listed(source(tmp_path)).select(["image_uri", LOCATION]).to_pylist()
    assert [row["image_uri"] for row in rows] == [f"{tmp_path}/caf\\xe9.jpg"] * 2
    assert {row[LOCATION] for row in rows} == {None, raw}


def test_links_to_folders_are_followed_and_each_real_folder_is_taken_once(tmp_path: Path) -> None:
    touch(tmp_path, "in/real/a.jpg", "far/b.jpg")
    (tmp_path / "in/again").symlink_to("real")
    (tmp_path / "in/far").symlink_to("../far")
    (tmp_path / "in/real/up").symlink_to("..")
    assert names(tmp_path / "in") == ["again/a.jpg", "far/b.jpg"]


def test_broken_links_and_fifos_are_rows(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    table = listed(source(tmp_path))
    assert [os.path.basename(uri) for uri in table["image_uri"].to_pylist()] == ["broken.jpg", "loop.jpg", "pipe.jpg"]
    assert table["image_bytes"].to_pylist() == [None, None, None]


def test_folders_that_cannot_be_listed() -> None:
    with tempfile.TemporaryDirectory() as folder:  # all users can enter it, unlike the folders of pytest
        root = Path(folder)
        touch(root, "shut/a.jpg", "open/b.jpg")
        root.chmod(0o755)
        (root / "shut").chmod(0)
        with as_nobody():
            opened = source(root)
            result = listed(opened)
            assert result["image_uri"].to_pylist() == [f"{root}/open/b.jpg", f"{root}/shut"]
            (_, read) = plan_fetches(result)
            error = capture_row_error("fetch", read)
            assert error == RowError("list", "PermissionDenied", "the folder cannot be listed: Permission denied")
            assert opened.listing.lost == 1
            assert opened.listing.unreadable == {f"{root}/shut": "Permission denied"}
            with pytest.raises(SourceError, match="cannot be listed: Permission denied"):
                listed(source(root / "shut"))
        (root / "shut").chmod(0o700)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["a.jpg"]),
        ("x*", ["x/b.jpg", "x/y/c.jpg"]),
        ("*/b.*", ["x/b.jpg"]),
        ("**/*.jpg", ["a.jpg", "x/b.jpg", "x/y/c.jpg"]),
        ("**", ["a.jpg", "d.png", "x/b.jpg", "x/y/c.jpg"]),
        ("x/**/c.jpg", ["x/y/c.jpg"]),
        ("[ad].*", ["a.jpg", "d.png"]),
        ("nothing*", []),
    ],
)
def test_globs(tmp_path: Path, pattern: str, found: list[str]) -> None:
    touch(tmp_path, "a.jpg", "d.png", "x/b.jpg", "x/y/c.jpg", "x/.h/h.jpg", ".i.jpg")
    assert names(tmp_path, tmp_path / pattern) == found


def test_braces_in_a_glob_are_literal_and_the_message_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "{b}.png")
    with pytest.raises(SourceError, match=r"\*\.\{jpg,png\}: nothing matches, and braces are taken literally: name"):
        source(tmp_path / "*.{jpg,png}")
    assert names(tmp_path, tmp_path / "{*}.png") == ["{b}.png"]


def test_a_pattern_counts_only_what_it_matches_as_skipped(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.xmp", "x/b.db")
    opened = source(tmp_path / "**/a.*")
    assert listed(opened).num_rows == 1
    assert opened.listing.skipped == {".xmp": 1}


def test_a_glob_over_cyclic_links_ends(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "x/b.jpg")
    for name in ("up1", "up2", "x/up3", "x/up4"):
        (tmp_path / name).symlink_to(tmp_path)
    assert names(tmp_path, tmp_path / "**/*.jpg") == ["a.jpg", "x/b.jpg"]


def test_a_link_with_another_name_does_not_hide_a_match(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg")
    (tmp_path / "alias").symlink_to("real")
    assert names(tmp_path, tmp_path / "**/real/*.jpg") == ["real/a.jpg"]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no such file or folder; check --source or source\.uri"):
        source(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="there is no folder"):
        source(tmp_path / "nowhere/**/*.jpg")
    with pytest.raises(SourceError, match="ftp://… cannot be read"):
        source("ftp://bucket/a")
    touch(tmp_path, "a.jpg")
    with pytest.raises(SourceError, match="starts with plain images and has no column 'a'"):
        source(tmp_path, rename={"a": "b"})


def test_a_file_uri_is_decoded(tmp_path: Path) -> None:
    touch(tmp_path, "with space/a.jpg")
    assert names(tmp_path, f"file://{tmp_path}/with%20space") == ["with space/a.jpg"]


def test_chunks_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, *(f"{index}.jpg" for index in range(5)))
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "2")
    assert [chunk.num_rows for chunk in source(tmp_path).iter_chunks()] == [2, 2, 1]


def test_internal_columns_cannot_meet_those_of_a_manifest() -> None:
    assert {field.name for field in entries.ENTRY_FIELDS} <= RESERVED_COLUMNS | set(INTERNAL)
