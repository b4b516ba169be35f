"""Compressed streams are read forward only, up to a limit."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
import zstandard

from cvbatch.sources.archives.streams import TAR, TAR_GZIP, TAR_ZSTD, ForwardStream
from cvbatch.sources.fetch.blob import BrokenContainerError, open_blob
from tests.sources.shards import kinds, names, planned, source, tar

DATA = bytes(range(256)) * 20_000


def stream(path: Path, how: str, data: bytes = DATA) -> ForwardStream:
    path.write_bytes({TAR: data, TAR_GZIP: gzip.compress(data), TAR_ZSTD: zstandard.compress(data)}[how])
    return ForwardStream(open_blob(os.fsencode(path)), how)


@pytest.mark.parametrize("how", [TAR, TAR_GZIP, TAR_ZSTD])
def test_forward_only(tmp_path: Path, how: str) -> None:
    result = stream(tmp_path / "x", how)
    assert result.read(10) == DATA[:10]
    result.seek(3_000_000)
    assert result.tell() == 3_000_000
    assert result.read(300_000) == DATA[3_000_000:3_300_000]
    result.seek(result.tell())
    with pytest.raises(BrokenContainerError, match="backwards"):
        result.seek(3_000_000)
    result.seek(len(DATA) + 5_000)
    assert result.read(10) == b""


@pytest.mark.parametrize("how", [TAR_GZIP, TAR_ZSTD])
def test_concatenated_compressed_streams(tmp_path: Path, how: str) -> None:
    stream(tmp_path / "x", how, b"one")
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(whole * 2)
    assert ForwardStream(open_blob(os.fsencode(tmp_path / "x")), how).read(10) == b"oneone"


@pytest.mark.parametrize("number", [0x184D2A50, 0x184D2A5F])
def test_files_of_pzstd_start_with_a_skippable_frame(tmp_path: Path, number: int) -> None:
    """As in RFC 8878: a magic number, a length in four bytes, and that many bytes."""
    packed = tar(tmp_path / "x.tar.zst", {"a.jpg": b"one", "b.jpg": b"two"})
    packed.write_bytes(number.to_bytes(4, "little") + (4).to_bytes(4, "little") + b"abcd" + packed.read_bytes())
    table = planned(source(packed))
    assert names(table) == ["a.jpg", "b.jpg"]
    assert kinds(table) == [b"one", b"two"]


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar.zst"])
def test_a_bomb_ends_early(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_UNPACKED_BYTES", str(1 << 20))
    members = {"a.jpg": b"good", "b.jpg": b"\0" * 50_000_000, "c.jpg": b"beyond"}
    opened = source(tar(tmp_path / name, members))
    table = planned(opened)
    assert "unpacks to more than" in opened.listing.unreadable[str(tmp_path / name)]
    assert names(table) == ["a.jpg", "b.jpg"]
    assert kinds(table) == [b"good", "DamagedArchive"]


def test_a_window_that_needs_too_much_memory(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=30)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()  # of unknown size
    data = tar(tmp_path / "x.tar", {"a.jpg": b"a"}).read_bytes()
    (tmp_path / "x.tar").write_bytes(packer.compress(data) + packer.flush())
    opened = source(tmp_path / "x.tar")
    assert kinds(planned(opened)) == ["DamagedArchive"]
    assert list(opened.listing.unreadable) == [str(tmp_path / "x.tar")]
