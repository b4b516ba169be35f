"""Zips: the central directory is only trusted if the bytes agree with it."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from cvbatch.sources.entries import identity_keys
from tests.sources.shards import kinds, names, planned, source, zipped

MEMBERS = {"a.jpg": b"first", "b/c.PNG": b"second" * 200, "d.webp": b""}


def patched(path: Path, *changes: tuple[bytes, bytes]) -> Path:
    data = path.read_bytes()
    for old, new in changes:
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_images_are_rows(tmp_path: Path, compression: int) -> None:
    opened = source(path := zipped(tmp_path / "x.zip", {**MEMBERS, "notes.md": b""}, compression))
    table = planned(opened)
    assert table["image_uri"].to_pylist() == [f"{path}#{member}" for member in MEMBERS]
    assert table["image_bytes"].to_pylist() == [len(content) for content in MEMBERS.values()]
    assert kinds(table) == list(MEMBERS.values())
    assert kinds(table.take([2, 0])) == [b"", b"first"]
    assert opened.listing.skipped == {".md": 1}


def test_a_zip_with_leading_data(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", MEMBERS)
    path.write_bytes(b"#!/bin/unzip\n" + path.read_bytes())
    assert kinds(planned(source(path))) == list(MEMBERS.values())


def test_zip64_and_long_extra_fields(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        with archive.open("a.jpg", "w", force_zip64=True) as file:
            file.write(b"first")
        info = zipfile.ZipInfo("b.jpg")
        info.extra = struct.pack("<HH", 0xCAFE, 3000) + b"e" * 3000
        archive.writestr(info, b"second")
    assert kinds(planned(source(tmp_path / "x.zip"))) == [b"first", b"second"]


def test_more_members_than_a_plain_zip_can_count(tmp_path: Path) -> None:
    zipped(tmp_path / "x.zip", {f"{number}.jpg": b"" for number in range(65_600)})
    table = planned(source(tmp_path / "x.zip"))
    assert table.num_rows == 65_600
    assert kinds(table.slice(65_599)) == [b""]


def test_zips_without_members_and_other_files(tmp_path: Path) -> None:
    opened = source(zipped(tmp_path / "x.zip", {}))
    assert kinds(planned(opened)) == ["NoImages"]
    whole = zipped(tmp_path / "x.zip", MEMBERS).read_bytes()
    for content in (b"", b"text" * 100, whole[:-30], whole[:50]):
        (tmp_path / "x.zip").write_bytes(content)
        opened = source(tmp_path / "x.zip")
        assert kinds(planned(opened)) == ["DamagedArchive" if content else "EmptyFile"]
        assert list(opened.listing.unreadable) == [str(tmp_path / "x.zip")]


def test_data_before_and_after_a_zip(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "x.zip", {"a.jpg": b"a"}).read_bytes()
    other = zipped(tmp_path / "x.zip", {"b.jpg": b"b"}).read_bytes()
    for content, result, said in (
        (b"#!/bin/sh\nexit\n" + whole, [b"a"], None),
        (whole + other, [b"b"], f"{len(whole)} bytes before it look like another zip and were skipped"),
        (whole + b"garbage", [b"a"], "7 bytes after its end were skipped"),
        (whole + b"\0" * 70_000, ["DamagedArchive"], "File is not a zip file"),
        (whole[:-2] + b"\x05\0words", [b"a"], None),
    ):
        (tmp_path / "x.zip").write_bytes(content)
        opened = source(tmp_path / "x.zip")
        assert kinds(planned(opened)) == result
        assert opened.listing.unreadable == ({} if said is None else {str(tmp_path / "x.zip"): said})


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"cafX.jpg": b"bytes", "caf\\xe9.jpg": b"text", "größe.jpg": b"umlaut"})
    table = planned(source(patched(path, (b"cafX", b"caf\xe9"))))
    assert names(table) == ["caf\\xe9.jpg", "caf\\xe9.jpg", "größe.jpg"]
    assert kinds(table) == [b"bytes", b"text", b"umlaut"]
    assert len(set(identity_keys(table))) == 3


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_with_the_same_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.jpg", b"1")
        archive.writestr("a.jpg", b"2")
    table = planned(source(tmp_path / "x.zip"))
    assert kinds(table) == [b"1", b"2"]
    assert len(set(identity_keys(table))) == 2


def test_the_policy(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("../up.jpg", "/etc/absolute.jpg", "..\\up.jpg", "C:/windows.jpg", "good.jpg"):
            archive.writestr(zipfile.ZipInfo(name), b"content")
        for name in (".hidden.jpg", "__MACOSX/._a.jpg", "inner.zip"):
            archive.writestr(name, b"")
        archive.mkdir("folder.jpg")
        for name, kind in {"link.jpg": stat.S_IFLNK, "null.jpg": stat.S_IFCHR, "pipe.jpg": stat.S_IFIFO}.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o777) << 16
            archive.writestr(info, b"/etc/passwd")
    opened = source(tmp_path / "x.zip")
    assert kinds(planned(opened)) == ["UnsafeMember"] * 4 + [b"content"]
    assert opened.listing.skipped == {".zip": 1, "symbolic link": 1, "device": 1, "FIFO": 1}
    assert os.listdir(tmp_path) == ["x.zip"], "nothing is extracted"


def test_encrypted_members(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.jpg": b"a"})
    data = bytearray(path.read_bytes())
    for magic, index in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + index] |= 1
    path.write_bytes(data)
    assert kinds(planned(source(path))) == ["EncryptedMember"]


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unsupported_compressions(tmp_path: Path, compression: int) -> None:
    assert kinds(planned(source(zipped(tmp_path / "x.zip", MEMBERS, compression))))[1] == "UnsupportedCompression"


def test_a_member_that_unpacks_to_more_than_declared(tmp_path: Path) -> None:
    bomb = b"\0" * 50_000_000
    path = zipped(tmp_path / "x.zip", {"a.jpg": bomb, "b.jpg": b"good" * 99})
    patched(path, (struct.pack("<I", len(bomb)), struct.pack("<I", 1000)))
    table = planned(source(path))
    assert table["image_bytes"].to_pylist() == [1000, 396]
    assert kinds(table) == ["DecompressionBomb", b"good" * 99]


def test_overlapping_members(tmp_path: Path) -> None:
    """All members share the kernel of one; this is how 10 MB unpack to a quarter of a petabyte."""
    path = zipped(tmp_path / "x.zip", {"0.jpg": b"\0" * 5000, "1.jpg": b"one", "2.jpg": b"good"})
    data = bytearray(path.read_bytes())
    entry = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    data[entry + 42 : entry + 46] = struct.pack("<I", 10)
    path.write_bytes(data)
    assert kinds(planned(source(path))) == ["OverlappingMember", "OverlappingMember", b"good"]


def test_invalid_numbers(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.jpg", b"a")
        archive.writestr("b.jpg", b"b")
        huge = archive.infolist()[1]
        huge.file_size = huge.compress_size = (1 << 64) - 1
    table = planned(source(tmp_path / "x.zip"))
    assert kinds(table) == [b"a", "TooManyBytes"]


def test_a_member_that_declares_too_many_bytes(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip", {"a.jpg": b"\0" * 5000, "b.jpg": b"b"})
    patched(path, (struct.pack("<I", 5000), struct.pack("<I", 257 << 20)))
    assert kinds(planned(source(path))) == ["TooManyBytes", b"b"]


def test_damaged_members(tmp_path: Path) -> None:
    stored = zipped(tmp_path / "x.zip", {"a.jpg": b"stored", "b.jpg": b"good"}, zipfile.ZIP_STORED)
    assert kinds(planned(source(patched(stored, (b"stored", b"altered"[:6]))))) == ["DamagedMember", b"good"]
    packed = zipped(tmp_path / "y.zip", {"a.jpg": b"packed" * 99})
    body = zlib.compress(b"packed" * 99)[2:10]
    assert kinds(planned(source(patched(packed, (body, b"\xff" * len(body)))))) == ["DamagedMember"]
    lying = zipped(tmp_path / "z.zip", {"a.jpg": b"short"}, zipfile.ZIP_STORED)
    (crc,) = (struct.pack("<I", zlib.crc32(b"short")),)
    assert kinds(planned(source(patched(lying, (crc, b"\0" * 4))))) == ["DamagedMember"]


def test_a_zip_that_changed_after_planning(tmp_path: Path) -> None:
    members = {f"{number}.jpg": b"%d" % number * 3000 for number in range(3)}
    table = planned(source(zipped(tmp_path / "x.zip", members, zipfile.ZIP_STORED)))
    whole = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(whole[:4000])
    assert kinds(table) == [b"0" * 3000, "TruncatedArchive", "ArchiveChanged"]
    zipped(tmp_path / "x.zip", {"0.jpg": b"new" * 1000, "new.jpg": b"x" * 700}, zipfile.ZIP_STORED)
    assert kinds(table) == ["DamagedMember", "TruncatedArchive", "ArchiveChanged"]
