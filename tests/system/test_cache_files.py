"""Cache files are complete or missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.system.cache_files import atomic_write_path


def test_a_file_is_renamed_once_it_is_complete(tmp_path: Path) -> None:
    file = tmp_path / "network.pt2"
    with atomic_write_path(file) as temporary_file:
        temporary_file.write_text("new")
        assert not file.exists()
    assert file.suffix == temporary_file.suffix, "some writers go by it"
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt2"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "network.pt2"
    file.write_text("old")

    def fail() -> None:
        with atomic_write_path(file) as temporary_file:
            temporary_file.write_text("ha")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
