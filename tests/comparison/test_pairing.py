"""Rows of two runs are paired by content, or by location if that fits more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvbatch.comparison.pairing import NO_PAIR, pair_runs
from cvbatch.errors import UsageError
from cvbatch.results.committed import OpenedOutput, open_output
from tests.evaluation.label_runs import classifier, label_run

MODEL = classifier(("a", "b"))


def make_run(folder: Path, hashes: list[int | None], uris: list[str], failed: tuple[int, ...] = ()) -> OpenedOutput:
    scores = np.tile([0.9, 0.1], (len(uris), 1))
    contents = [None if number is None else f"{number:016x}{0:048x}" for number in hashes]
    return open_output(label_run(folder, MODEL, scores, failed=failed, uris=uris, content_sha256=contents))


def test_content_pairs_rows_whatever_their_names_and_order(tmp_path: Path) -> None:
    first = make_run(tmp_path / "1", [7, 8, 0xFEDCBA9876543210, 9], ["/a", "/b", "/c", "/d"])
    second = make_run(tmp_path / "2", [9, 0xFEDCBA9876543210, 5, 7], ["/d", "/y", "/z", "/x"])
    pairs = pair_runs(first, second)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 2, 3], [3, 1, 0])
    assert pairs.pair_indices(0, np.array([3, 1, 0])).tolist() == [2, NO_PAIR, 0]
    assert pairs.pair_indices(1, np.array([0, 1, 2, 3])).tolist() == [2, 1, NO_PAIR, 0]
    counts = pairs.to_json()
    assert (counts["images"], counts["matched_by"]) == (3, "content_sha256")
    assert (counts["only_first"], counts["only_second"]) == (1, 1)


def test_images_with_the_same_bytes_are_paired_in_their_order(tmp_path: Path) -> None:
    first = make_run(tmp_path / "1", [4, 4, 4, 6], ["/a", "/b", "/c", "/d"])
    second = make_run(tmp_path / "2", [6, 4, 4], ["/x", "/y", "/z"])
    pairs = pair_runs(first, second)
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 1, 3], [1, 2, 0])


def test_locations_pair_rows_if_more_of_them_fit(tmp_path: Path) -> None:
    first = make_run(tmp_path / "1", [1, 2, None], ["/a", "/b", "/c"])
    second = make_run(tmp_path / "2", [1, 5, None], ["/c", "/b", "/a"])
    pairs = pair_runs(first, second)
    assert pairs.matched_by == "image_uri"
    assert (pairs.first.tolist(), pairs.second.tolist()) == ([0, 1, 2], [2, 1, 0])


def test_failed_rows_take_no_part_and_a_condition_holds_for_both(tmp_path: Path) -> None:
    first = make_run(tmp_path / "1", [1, 2, 3], ["/a", "/b", "/c"], failed=(1,))
    second = make_run(tmp_path / "2", [1, 2, 3], ["/a", "/b", "/c"])
    pairs = pair_runs(first, second)
    assert pairs.first.tolist() == [0, 2]
    assert (pairs.to_json()["failed_first"], pairs.to_json()["failed_second"]) == (1, 0)
    assert pair_runs(first, second, "image_uri <> '/a'").first.tolist() == [2]


def test_runs_without_a_common_image_are_one_line_with_examples(tmp_path: Path) -> None:
    first = make_run(tmp_path / "1", [1], ["/a/1.jpg"])
    second = make_run(tmp_path / "2", [2], ["/b/2.jpg"])
    with pytest.raises(UsageError, match=r"over the same images; got .* with /a/1.jpg and .* with /b/2.jpg, and no"):
        pair_runs(first, second)
    with pytest.raises(UsageError, match="no row to compare"):
        pair_runs(first, second, "width > 5")
