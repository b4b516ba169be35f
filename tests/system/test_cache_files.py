"""What is kept is kept whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.system.cache_files import atomic_write_path


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    kept = tmp_path / "network.pt2"
    with atomic_write_path(kept) as part:
        part.write_text("new")
        assert not kept.exists()
    assert kept.suffix == part.suffix, "some writers go by it"
    assert [path.name for path in tmp_path.iterdir()] == ["network.pt2"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    kept = tmp_path / "network.pt2"
    kept.write_text("old")

    def fail() -> None:
        with atomic_write_path(kept) as part:
            part.write_text("ha")
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fail()
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]
