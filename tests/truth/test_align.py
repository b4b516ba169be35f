"""Images of the truth find their rows by path, file name or content; what has no counterpart is counted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cvbatch.errors import UsageError
from cvbatch.models.spec import rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.results.committed import OpenedOutput, open_output
from cvbatch.truth.align import align_truth
from cvbatch.truth.alignment import NO_ROW
from cvbatch.truth.base import Truth
from tests.samples import block, planned, spec, started

URIS = ["/p/a/1.jpg", "/p/a/2.jpg", "/p/b/1.jpg", "/p/s.tar#c/3.jpg", "/p/b/4.png"]
HASHES = [f"{index:064x}" for index in range(5)]


def make_run(folder: Path, uris: Sequence[str] = URIS, failed: Sequence[int] = (), **columns: Any) -> OpenedOutput:
    store, _ = planned(folder, len(uris))
    log = started(store, len(uris))
    rows = block(0, len(uris), failed=failed, image_uri=uris, content_sha256=HASHES[: len(uris)], **columns)
    log.commit_files(write_data_files(WriteContext(store.root, log.epoch, rows_schema([spec()])), [rows]).files)
    return open_output(store.root)


def truth(*names: str, **options: Any) -> Truth:
    return Truth(source="truth.json", layout="a list", image_names=names, categories=("x",), **options)


@pytest.mark.parametrize(
    ("names", "rows", "matched_by"),
    [
        (["/p/a/1.jpg", "/p/b/1.jpg"], [0, 2], "path"),
        (["b/1.jpg", "a/1.jpg"], [2, 0], "path"),
        (["c/3.jpg", "a\\2.jpg"], [3, 1], "path"),
        (["2.jpg", "4.png"], [1, 4], "file name"),
        (["4.png", "a/2.jpg", "/p/b/1.jpg"], [4, 1, 2], "path"),
        (["a/1.jpg", "1.jpg"], [0, 2], "path"),
        (["/home/me/p/b/1.jpg", "/home/me/p/c/1.jpg"], [2, NO_ROW], "last 3 parts of the path"),
        (["s3://bucket/x/2.jpg"], [1], "file name"),
        ([HASHES[4], HASHES[1].upper()], [4, 1], "content_sha256"),
    ],
)
def test_names_find_rows(tmp_path: Path, names: list[str], rows: list[int], matched_by: str) -> None:
    alignment = align_truth(make_run(tmp_path), truth(*names))
    assert (alignment.row_ids.tolist(), alignment.matched_by) == (rows, matched_by)
    assert alignment.without_row == rows.count(NO_ROW)
    assert alignment.rows_without_truth == 5 - len(rows) + rows.count(NO_ROW)


def test_names_without_suffix(tmp_path: Path) -> None:
    alignment = align_truth(make_run(tmp_path), truth("a/2", "b/4", "b/5", has_suffixes=False))
    assert alignment.row_ids.tolist() == [1, 4, NO_ROW]
    assert alignment.example_without_row == "b/5"


def test_rows_of_other_images_have_no_place_in_the_truth(tmp_path: Path) -> None:
    alignment = align_truth(make_run(tmp_path), truth("b/4.png", "a/2.jpg"))
    assert alignment.truth_indices(np.array([4, 0, 1, 9])).tolist() == [0, -1, 1, -1]
    assert alignment.restrict(np.array([False, True])).truth_indices(np.array([4, 1])).tolist() == [-1, 1]
    assert alignment.restrict(np.array([False, False])).truth_indices(np.array([4])).tolist() == [-1]


def test_failed_and_unselected_rows_take_no_part_and_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path, failed=[1], width=[8, None, 16, 8, 8])
    alignment = align_truth(run, truth("a/1.jpg", "a/2.jpg", "b/1.jpg", "b/9.jpg"), where="width > 8")
    assert alignment.row_ids.tolist() == [NO_ROW, NO_ROW, 2, NO_ROW]
    counts = alignment.to_json()
    assert {name: counts[name] for name in counts if counts[name]} == {
        "matched_by": "path",
        "images": 1,
        "truth_images": 4,
        "truth_without_row": 1,
        "truth_failed": 1,
        "truth_not_selected": 1,
        "rows": 5,
        "rows_without_truth": 2,
        "example_without_row": "b/9.jpg",
        "example_without_truth": "/p/s.tar#c/3.jpg",
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["1.jpg"], "expected names that fit one image, got 1.jpg, which fits /p/a/1.jpg and /p/b/1.jpg"),
        (["x/2.jpg", "y/2.jpg"], "got x/2.jpg and y/2.jpg, of which only 2.jpg agrees with the run"),
        (["8.jpg"], "expected images of .*, such as /p/a/1.jpg; got 8.jpg, and no name fits any row"),
    ],
)
def test_names_that_do_not_tell_are_one_line(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        align_truth(make_run(tmp_path), truth(*names))


def test_the_same_image_twice_in_the_run_is_no_question(tmp_path: Path) -> None:
    alignment = align_truth(make_run(tmp_path, ["/p/1.jpg", "/p/1.jpg", "/p/2.jpg"]), truth("1.jpg"))
    assert (alignment.row_ids.tolist(), alignment.rows_without_truth) == ([0], 1)


@pytest.mark.parametrize(("names", "message"), [([], "with images, got none"), (["a", "a"], "got 'a' twice")])
def test_truth_names_its_images_once(names: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        truth(*names)
