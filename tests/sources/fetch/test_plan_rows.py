"""Bytes of a unit: read by several threads, each container once; errors affect one row or one container."""

from __future__ import annotations

import errno
import os
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from cvbatch.errors import RowError
from cvbatch.sources.entries import Span, entry_table, member_table, spans_of_entries
from cvbatch.sources.fetch import blob
from cvbatch.sources.fetch.blob import LocalBlob
from cvbatch.sources.fetch.plan_rows import plan_fetches
from tests.rigs.process import bytes_read, times_open
from tests.sources.shards import arrow, fetched, kinds, planned, source, tar, zipped

CONTENTS = {f"{number:03d}.jpg": os.urandom(2000) for number in range(200)}


def test_several_threads(tmp_path: Path) -> None:
    tar(tmp_path / "1.tar.gz", CONTENTS)
    tar(tmp_path / "2.tar", CONTENTS)
    zipped(tmp_path / "3.zip", CONTENTS)
    table = pa.table({"image": list(CONTENTS.values())})
    arrow(tmp_path / "4.feather", table, rows=50, stream=False, packed=True)
    with ThreadPoolExecutor(8) as pool:
        result = list(pool.map(lambda read: read(), plan_fetches(planned(source(tmp_path)))))
    assert result == list(CONTENTS.values()) * 4


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip", "x.arrow"])
def test_a_container_is_opened_once_and_closed_again(tmp_path: Path, name: str) -> None:
    if name.endswith("arrow"):
        arrow(tmp_path / name, pa.table({"image": list(CONTENTS.values())}))
    else:
        (zipped if name.endswith("zip") else tar)(tmp_path / name, CONTENTS)  # type: ignore[operator]
    table = planned(source(tmp_path / name))
    reads = plan_fetches(table)
    assert times_open(tmp_path / name) == 0
    for read, content in zip(reads, CONTENTS.values(), strict=True):
        assert read() == content
        assert times_open(tmp_path / name) == 1
    del read, reads
    assert times_open(tmp_path / name) == 0


def test_a_compressed_tar_is_decompressed_once(tmp_path: Path) -> None:
    members = {f"{number}.jpg": os.urandom(1 << 20) for number in range(4)}
    table = planned(source(tar(tmp_path / "x.tar.gz", members)))
    before = bytes_read()
    assert kinds(table) == list(members.values())
    assert bytes_read() - before < 2 * (4 << 20), "one pass"


def test_system_errors_affect_one_row_and_can_be_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = {"a.jpg": os.urandom(3 << 20), "b.jpg": b"b", "c.jpg": b"c"}
    table = planned(source(tar(tmp_path / "x.tar.gz", members)))
    failures = iter([False, True])

    class Failing(LocalBlob):
        def read_range(self, start: int, length: int) -> bytes:
            if next(failures, False):
                raise OSError(errno.EIO, "disk is ill")
            return super().read_range(start, length)

    monkeypatch.setattr(blob, "LocalBlob", Failing)
    first, *rest = fetched(table)
    assert first == RowError("fetch", "OSError", "[Errno 5] disk is ill", transient=True)
    assert rest == [b"b", b"c"]


def test_refused_members_are_never_opened(tmp_path: Path) -> None:
    table = planned(source(tar(tmp_path / "x.tar", {"../a.jpg": b"a"})))
    (tmp_path / "x.tar").unlink()
    assert fetched(table) == [RowError("fetch", "UnsafeMember", "its name is absolute or leads outside the archive")]


def test_containers_that_are_not_local(tmp_path: Path) -> None:
    table = member_table(b"ftp://host/x.tar", None, ["a.jpg"], [5], [Span("tar", 512, 5)])
    assert kinds(table) == ["NotLocal"]


def test_files_and_members_side_by_side(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"file")
    tar(tmp_path / "b.tar", {"b.jpg": b"member", "link.jpg": _link()})
    table = planned(source(tmp_path))
    assert kinds(table.take([1, 0])) == [b"member", b"file"]
    assert [span is None for span in spans_of_entries(table)] == [True, False]
    assert kinds(entry_table([os.fsencode(tmp_path / "a.jpg")], [None], [None]).drop_columns(["_span"])) == [b"file"]


def _link() -> tarfile.TarInfo:
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.SYMTYPE, "b.jpg"
    return info
