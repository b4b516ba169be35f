"""Blobs: ranges, streams, seekable files, and closing."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from cvbatch.errors import ImageError
from cvbatch.sources.fetch.blob import LazyBlob, open_blob, open_buffered, read_all_bytes

DATA = os.urandom(100_000)


@pytest.fixture
def location(tmp_path: Path) -> bytes:
    (tmp_path / "x").write_bytes(DATA)
    return os.fsencode(tmp_path / "x")


def test_ranges(location: bytes) -> None:
    blob = open_blob(location)
    assert (blob.location, blob.byte_size()) == (location, len(DATA))
    assert blob.read_range(0, 10) == DATA[:10]
    assert blob.read_range(50_000, 1 << 20) == DATA[50_000:]
    assert blob.read_range(len(DATA), 10) == blob.read_range(len(DATA) + 5, 10) == blob.read_range(3, 0) == b""
    assert bytes(read_all_bytes(blob)) == DATA


def test_streams_and_seekable_files(location: bytes) -> None:
    blob = open_blob(location)
    assert blob.open_stream().read() == DATA
    file = open_buffered(blob, 512)
    assert file.seek(-10, os.SEEK_END) == len(DATA) - 10
    assert file.read() == DATA[-10:]
    assert file.seek(100) == 100
    assert file.seek(5, os.SEEK_CUR) == 105
    assert file.read(1000) == DATA[105:1105]
    with pytest.raises(OSError, match="a position of at least 0"):
        file.seek(-1)


def test_it_is_closed_after_use(location: bytes) -> None:
    def ours() -> int:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return sum(os.path.samefile(link, location) for link in links if os.path.exists(link))

    blob = open_blob(location)
    assert ours() == 1
    mapped = read_all_bytes(blob)
    del blob
    gc.collect()
    assert bytes(mapped[:4]) == DATA[:4]
    del mapped
    gc.collect()
    assert ours() == 0


def test_open_errors_are_raised_on_each_call(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in ((tmp_path / "pipe", "NotARegularFile"), (tmp_path / "none", "NotFound")):
        once = LazyBlob(os.fsencode(path))
        for _ in range(2):
            with pytest.raises(ImageError) as caught:
                once.open_once()
            assert caught.value.kind == kind


def test_reading_beyond_the_end_takes_no_memory(location: bytes) -> None:
    file = open_buffered(open_blob(location))
    file.seek(10)
    assert file.read(1 << 60) == DATA[10:]
    assert file.read(1 << 60) == b""


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    assert read_all_bytes(open_blob(os.fsencode(tmp_path / "x"))).size == 0
