"""Mutated files of every format decode to a picture or to an error with a name."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cvbatch.errors import RowError, capture_row_error
from cvbatch.images.decode import decode
from cvbatch.images.formats import FORMATS
from tests.images.fuzzing import fuzz
from tests.images.mutants import seeds


def test_mutants_start_from_whole_files_of_every_format() -> None:
    files = seeds()
    assert set(files) == {kind.name for kind in FORMATS}
    results = {
        (name, index): capture_row_error("decode", lambda data=data: decode(data, max_pixels=10**6).format)
        for name, whole in files.items()
        for index, data in enumerate(whole)
    }
    refused = {key: result for key, result in results.items() if result != key[0]}
    assert all(isinstance(result, RowError) and result.type.startswith("Unsupported") for result in refused.values())
    assert len(refused) < 5


def test_some_mutants(tmp_path: Path) -> None:
    assert fuzz(60, seed=1, folder=tmp_path, count=800) == []


@pytest.mark.soak
def test_mutants_for_twenty_minutes(tmp_path: Path) -> None:
    seed = int(time.time())
    assert fuzz(20 * 60, seed=seed, folder=tmp_path) == [], f"seed {seed}; their files are in {tmp_path}"
