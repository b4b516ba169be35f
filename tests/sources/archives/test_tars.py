"""Tars with all kinds of members: images are rows, others are counted, damage is reported."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cvbatch.errors import SourceError
from cvbatch.sources.archives import tars
from cvbatch.sources.archives.listing import END_MARK
from cvbatch.sources.entries import identity_keys
from tests.sources.shards import IMAGES, kinds, names, planned, source, special, tar

FORMS = ("x.tar", "x.tar.gz", "x.tgz", "x.tar.zst")
LONG = "folder/" * 30 + "a" * 120 + ".jpg"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_images_are_rows_in_the_order_of_the_archive(tmp_path: Path, name: str, form: int) -> None:
    path = tar(tmp_path / name, IMAGES, format=form)
    opened = source(path)
    table = planned(opened)
    assert table["image_uri"].to_pylist() == [f"{path}#{member}" for member in IMAGES]
    assert table["image_bytes"].to_pylist() == [len(content) for content in IMAGES.values()]  # type: ignore[arg-type]
    assert table["_location"].to_pylist() == [os.fsencode(path)] * 3
    assert table["_modified_ns"].to_pylist() == [path.stat().st_mtime_ns] * 3
    assert kinds(table) == list(IMAGES.values())
    assert opened.listing.skipped == {}
    assert opened.listing.unreadable == {}
    assert planned(opened).equals(table), "listing again starts again"


@pytest.mark.parametrize("name", FORMS)
def test_members_are_read_in_any_order(tmp_path: Path, name: str) -> None:
    table = planned(source(tar(tmp_path / name, {f"{n}.jpg": b"%d" % n for n in range(9)})))
    assert kinds(table.take([7, 0, 8, 3])) == [b"7", b"0", b"8", b"3"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names(tmp_path: Path, form: int) -> None:
    table = planned(source(tar(tmp_path / "x.tar", {LONG: b"long", "größe.jpg": b"umlaut"}, format=form)))
    assert names(table) == [LONG, "größe.jpg"]
    assert kinds(table) == [b"long", b"umlaut"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_that_are_not_utf8_and_names_that_look_the_same(tmp_path: Path, form: int) -> None:
    members = [(os.fsdecode(b"caf\xe9.jpg"), b"bytes"), ("caf\\xe9.jpg", b"text"), ("a.jpg", b"1"), ("a.jpg", b"2")]
    table = planned(source(tar(tmp_path / "x.tar", members, format=form, errors="surrogateescape")))
    assert names(table) == ["caf\\xe9.jpg", "caf\\xe9.jpg", "a.jpg", "a.jpg"]
    assert kinds(table) == [b"bytes", b"text", b"1", b"2"]
    assert len(set(identity_keys(table))) == 4, "each is known by a name of its own"


def test_the_policy(tmp_path: Path) -> None:
    members = [
        ("../up.jpg", b"1"),
        ("in/../../up.jpg", b"2"),
        ("/etc/absolute.jpg", b"3"),
        ("C:\\windows.jpg", b"4"),
        ("in\\..\\..\\up.jpg", b"5"),
        ("./good.jpg", b"6"),
        ("in/..two dots.jpg", b"hidden"),
        ("in/good..jpg", b"7"),
        (".hidden.jpg", b""),
        (".git/a.jpg", b""),
        ("__MACOSX/a.jpg", b""),
        ("link.jpg", special(tarfile.SYMTYPE, "/etc/passwd")),
        ("hard.jpg", special(tarfile.LNKTYPE, "./good.jpg")),
        ("null.jpg", special(tarfile.CHRTYPE)),
        ("sda.jpg", special(tarfile.BLKTYPE)),
        ("pipe.jpg", special(tarfile.FIFOTYPE)),
        ("folder.jpg", special(tarfile.DIRTYPE)),
        ("inner.tar", b""),
        ("inner.tar.gz", b""),
        ("inner.zip", b""),
        ("README", b""),
    ]
    opened = source(tar(tmp_path / "x.tar", members))
    table = planned(opened)
    unsafe = ["UnsafeMember"] * 5
    assert kinds(table) == [*unsafe, b"6", b"7"]
    assert names(table)[:3] == ["../up.jpg", "in/../../up.jpg", "/etc/absolute.jpg"]
    assert opened.listing.skipped == {
        "symbolic link": 1, "hard link": 1, "device": 2, "FIFO": 1, ".tar": 1, ".gz": 1, ".zip": 1, "no suffix": 1
    }  # fmt: skip
    assert os.listdir(tmp_path) == ["x.tar"], "nothing is extracted"


def test_sparse_files_are_counted(tmp_path: Path) -> None:
    info = tarfile.TarInfo("sparse.jpg")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    opened = source(tar(tmp_path / "x.tar", [("sparse.jpg", info), ("b.jpg", b"b")], format=tarfile.GNU_FORMAT))
    assert kinds(planned(opened)) == [b"b"]
    assert opened.listing.skipped == {"sparse file": 1}


@pytest.mark.parametrize("name", FORMS)
def test_archives_without_members_and_other_files(tmp_path: Path, name: str) -> None:
    opened = source(tar(tmp_path / name, {}))
    assert kinds(planned(opened)) == ["NoImages"]
    assert opened.listing.lost == 1
    for content in (b"", b"text" * 300, b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\0" * 100):
        (tmp_path / name).write_bytes(content)
        opened = source(tmp_path / name)
        assert kinds(planned(opened)) == ["DamagedArchive" if content else "EmptyFile"]
        assert list(opened.listing.unreadable) == [str(tmp_path / name)]


@pytest.mark.parametrize("name", FORMS)
def test_members_before_a_truncation_are_planned(tmp_path: Path, name: str) -> None:
    members = {f"{number}.jpg": os.urandom(300_000) for number in range(6)}
    whole = tar(tmp_path / name, members).read_bytes()
    (tmp_path / name).write_bytes(whole[:1_000_000])
    opened = source(tmp_path / name)
    table = planned(opened)
    assert names(table) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    *good, cut = kinds(table)
    assert good == [members[f"{number}.jpg"] for number in range(3)]
    assert cut in ("TruncatedArchive", "DamagedArchive")
    assert list(opened.listing.unreadable) == [str(tmp_path / name)]


def test_a_truncation_between_two_members_is_detected(tmp_path: Path) -> None:
    whole = tar(tmp_path / "x.tar", {f"{number}.jpg": b"x" * 512 for number in range(6)}).read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[:3072])
    opened = source(tmp_path / "x.tar")
    assert kinds(planned(opened)) == [b"x" * 512] * 3
    assert "without an end mark" in opened.listing.unreadable[str(tmp_path / "x.tar")]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("zeros", [0, 512, 20_000 // 512 * 512])
def test_concatenated_tars(tmp_path: Path, name: str, zeros: int) -> None:
    parts = [{"a.jpg": b"a", "b.jpg": b"b" * 5000}, {"b.jpg": b"other", "c.jpg": b"c"}, {"d.jpg": b"d"}]
    bytes_of = [tar(tmp_path / f"part-{name}", members).read_bytes() for members in parts]
    between = b"\0" * (zeros if name == "x.tar" else 0)
    (tmp_path / name).write_bytes(between.join(bytes_of))
    (tmp_path / f"part-{name}").unlink()
    opened = source(tmp_path / name)
    table = planned(opened)
    assert names(table) == ["a.jpg", "b.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert kinds(table) == [b"a", b"b" * 5000, b"other", b"c", b"d"]
    assert kinds(table.take([4, 2, 0])) == [b"d", b"other", b"a"]
    assert len(set(identity_keys(table))) == 5
    assert opened.listing.skipped == {END_MARK: 2}
    assert opened.listing.unreadable == {}


@pytest.mark.parametrize("behind", [b"garbage", b"x" * 70_000, b"\0" * 1024 + b"y" * 600])
def test_other_data_after_an_end_mark(tmp_path: Path, behind: bytes) -> None:
    whole = tar(tmp_path / "x.tar", {"a.jpg": b"a"}).read_bytes()
    (tmp_path / "x.tar").write_bytes(whole + behind)
    opened = source(tmp_path / "x.tar")
    assert kinds(planned(opened)) == [b"a"]
    count = len(behind.lstrip(b"\0"))
    assert opened.listing.unreadable == {
        str(tmp_path / "x.tar"): f"{count:,} bytes after its end mark are not a tar and were skipped"
    }
    assert opened.listing.lost == 0


def test_a_truncated_second_tar(tmp_path: Path) -> None:
    whole = tar(tmp_path / "x.tar", {"a.jpg": b"a"}).read_bytes()
    (tmp_path / "x.tar").write_bytes(whole + tar(tmp_path / "y.tar", {"b.jpg": b"b" * 9000}).read_bytes()[:5000])
    opened = source(tmp_path / "x.tar")
    assert kinds(planned(opened)) == [b"a", "TruncatedArchive"]
    assert list(opened.listing.unreadable) == [str(tmp_path / "x.tar")]


def test_a_damaged_header_ends_the_listing(tmp_path: Path) -> None:
    whole = bytearray(tar(tmp_path / "x.tar", {f"{number}.jpg": b"x" * 512 for number in range(6)}).read_bytes())
    whole[3072 + 130] ^= 1
    (tmp_path / "x.tar").write_bytes(whole)
    opened = source(tmp_path / "x.tar")
    assert names(planned(opened)) == ["0.jpg", "1.jpg", "2.jpg"]
    assert "damaged" in opened.listing.unreadable[str(tmp_path / "x.tar")]


@pytest.mark.parametrize("name", FORMS)
def test_an_archive_that_changed_after_planning(tmp_path: Path, name: str) -> None:
    members = {f"{number}.jpg": b"%d" % number * 3000 for number in range(3)}
    table = planned(source(tar(tmp_path / name, members)))
    tar(tmp_path / name, {"0.jpg": b"0" * 3000, "new.jpg": b"x" * 700, "1.jpg": b"1" * 3000, "2.jpg": b"2" * 3000})
    assert kinds(table) == [b"0" * 3000, "ArchiveChanged", "ArchiveChanged"]
    (tmp_path / name).unlink()
    assert kinds(table) == ["NotFound"] * 3


def headers_of(size: bytes, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header with this size field and a correct checksum."""
    block = bytearray(tarfile.TarInfo("evil.jpg").tobuf(tarfile.GNU_FORMAT))
    block[124:136], block[156:157], block[148:156] = size, kind, b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (headers_of(b"\xff" * 8 + b"\xff\xff\xf8\x00"), ""),
        (headers_of(b"00077777777\0", tarfile.XHDTYPE), "a header has"),
        (headers_of(b"00077777777\0", tarfile.GNUTYPE_LONGNAME), "a header has"),
        (headers_of(b"00000000000\0", tarfile.XHDTYPE) * 3000, ""),
        (headers_of(b"00000001000\0", tarfile.XHDTYPE) + b"9" * 512, ""),
    ],
    ids=["negative size", "large extended header", "large name", "many extended headers", "long number"],
)
def test_hostile_headers(tmp_path: Path, data: bytes, expected: str) -> None:
    (tmp_path / "x.tar").write_bytes(tar(tmp_path / "y.tar", {"a.jpg": b"a"}).read_bytes()[:1024] + data + b"\0" * 2048)
    opened = source(tmp_path / "x.tar")
    assert names(planned(opened))[:1] == ["a.jpg"]
    assert expected in opened.listing.unreadable[str(tmp_path / "x.tar")]


def test_images_of_more_than_256_mib_are_refused(tmp_path: Path) -> None:
    with open(tmp_path / "x.tar", "wb") as file:
        file.write(headers_of(b"%011o\0" % ((256 << 20) + 1)))
        file.seek((257 << 20) - 512, io.SEEK_CUR)
        file.write(b"\0" * 1024)
    [row] = planned(opened := source(tmp_path / "x.tar")).to_pylist()
    assert row["image_bytes"] == (256 << 20) + 1
    assert kinds(planned(opened)) == ["TooManyBytes"]


@given(
    name=st.binary(max_size=100),
    size=st.sampled_from(
        [b"00000000017\0", b"        17 \0", b"17         \0", b"\x80" + b"\0" * 10 + b"\x11", b"-0000000017\0"]
    ),
    kind=st.sampled_from([b"0", b"\0", b"5", b"7"]),
    magic=st.sampled_from([b"ustar\x0000", b"ustar  \0", b"\0" * 8]),
    prefix=st.sampled_from([b"", b"folder", b"\0later"]),
    wrong=st.integers(0, 9),
)
def test_headers_are_parsed_as_by_tarfile(
    name: bytes, size: bytes, kind: bytes, magic: bytes, prefix: bytes, wrong: int
) -> None:
    block = bytearray(512)
    for index, field in ((0, name), (124, size), (156, kind), (257, magic), (345, prefix), (148, b" " * 8)):
        block[index : index + len(field)] = field
    block[148:156] = b"%06o\0 " % (sum(block) + (wrong == 0))
    values = []
    for reader in (tarfile.TarInfo, tars._FastTarInfo):
        try:
            result = reader.frombuf(block, "utf-8", "surrogateescape")
            values.append((result.name, result.size, result.type, result.isreg()))
        except tarfile.HeaderError as error:
            values.append((type(error).__name__, 0, b"", False))
    assert values[0] == values[1]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_only_reduces_the_rows(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    path = tar(folder / data.draw(st.sampled_from(FORMS)), {LONG: b"x", "b.jpg": b"y" * 600, "b.json": b'{"a": 1}'})
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        opened = source(path)
    except SourceError:  # a key of the JSON can become a reserved name
        return
    kinds(planned(opened))
