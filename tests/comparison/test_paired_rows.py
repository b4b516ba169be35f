"""Rows are joined whatever their order, also if they must wait in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvbatch.comparison import paired_rows
from cvbatch.comparison.paired_rows import iter_paired_rows
from cvbatch.comparison.pairing import pair_runs
from cvbatch.results.committed import open_output
from tests.evaluation.label_runs import classifier, label_run

ROWS = 300


@pytest.mark.parametrize("most_waiting", [1 << 20, 2000])
@pytest.mark.parametrize("order", ["same", "mixed"])
def test_each_pair_comes_once(tmp_path: Path, order: str, most_waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paired_rows, "_MOST_WAITING_BYTES", most_waiting)
    places = np.arange(ROWS) if order == "same" else np.random.default_rng(0).permutation(ROWS)
    scores = np.tile([0.9, 0.1], (ROWS, 1))
    outputs = [
        label_run(
            tmp_path / str(side), classifier(("a", "b")), scores, content_sha256=[f"{n + 1:016x}" for n in numbers]
        )
        for side, numbers in enumerate((np.arange(ROWS), places))
    ]
    opened = (open_output(outputs[0]), open_output(outputs[1]))
    columns = (["content_sha256", "image_uri"], ["content_sha256"])
    files = []
    original = paired_rows._Buckets.add_rows

    def add_rows(self: paired_rows._Buckets, waiting: list[list[object]]) -> None:
        files.append(1)
        original(self, waiting)

    monkeypatch.setattr(paired_rows._Buckets, "add_rows", add_rows)
    pairs = list(iter_paired_rows(opened, pair_runs(*opened), columns, 7))
    assert all(first["content_sha256"].equals(second["content_sha256"]) for first, second in pairs)
    hashes = [value for first, _ in pairs for value in first["content_sha256"].to_pylist()]
    assert sorted(hashes) == [f"{number + 1:016x}" for number in range(ROWS)]
    assert bool(files) == (order == "mixed" and most_waiting == 2000)
