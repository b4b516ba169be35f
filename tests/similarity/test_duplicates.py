"""Duplicates: by content and by embedding, whom a group keeps, what is compared after a change, and wrong requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cvbatch
from cvbatch.cli.parser import main
from cvbatch.errors import OutputError, UsageError
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.store import open_store
from cvbatch.results.answer_files import place_answer
from cvbatch.results.committed import open_output
from cvbatch.similarity.duplicates import find_duplicates
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.objects import ObjectServer
from tests.samples import planned, planned_in, spec, started
from tests.similarity.vectors import EMBEDDING_MODEL, embeddings, run_with_vectors, turned, write_vectors

SAME = "ab" * 32


def groups_of(answer: Any) -> dict[int, list[int]]:
    frame = answer.read()
    return {int(group): rows["row_id"].tolist() for group, rows in frame.groupby("group")}


def test_near_and_exact_duplicates_are_grouped_around_the_largest(tmp_path: Path) -> None:
    store = run_with_vectors(
        tmp_path,
        [turned(0), turned(5), turned(90), turned(91), turned(0), None],
        content_sha256=["aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32, "aa" * 32, SAME],
        width=[10, 20, 10, 10, 10, None],
        image_bytes=[100, 100, 100, 101, 100, 7],
    )
    answer = find_duplicates(store.root, threshold=0.99)
    assert groups_of(answer) == {1: [1, 0, 4], 3: [3, 2]}
    frame = answer.read().set_index("row_id")
    assert frame["is_representative"].to_dict() == {1: True, 0: False, 4: False, 3: True, 2: False}
    assert frame["group_images"].tolist() == [3, 3, 3, 2, 2]
    np.testing.assert_allclose(frame["cosine"][[0, 4]], np.cos(np.radians(5)), atol=1e-6)
    assert (answer.images, answer.duplicates, answer.exact_duplicates, answer.duplicate_bytes) == (5, 3, 0, 300)
    assert answer.excluded == {"errors": 1}
    assert answer.path == f"{store.root}-duplicates.parquet"
    assert answer.largest_groups[0] == {"row_id": 1, "image_uri": "/photos/1.jpg", "images": 3}


def test_exact_duplicates_need_no_embedding(tmp_path: Path) -> None:
    store = run_with_vectors(tmp_path, [turned(0), turned(90), turned(0)], content_sha256=[SAME, "0" * 64, SAME])
    answer = find_duplicates(store.root, exact=True)
    assert groups_of(answer) == {0: [0, 2]}
    assert (answer.model, answer.exact_duplicates, answer.products) == (None, 1, None)
    assert answer.read()["is_exact"].all()


def test_a_preferred_column_decides_first(tmp_path: Path) -> None:
    store = run_with_vectors(tmp_path, [turned(0)] * 3, width=[30, 20, 10], image_bytes=[1, 3, None])
    assert groups_of(find_duplicates(store.root)) == {0: [0, 1, 2]}
    assert groups_of(find_duplicates(store.root, prefer="image_bytes")) == {1: [1, 0, 2]}


def test_conditions_and_vectors_without_direction(tmp_path: Path) -> None:
    store = run_with_vectors(
        tmp_path, [turned(0), [0.0] * 8, turned(0), turned(0)], content_sha256=["0" * 64, SAME, SAME, "1" * 64]
    )
    answer = find_duplicates(store.root, where="row_id < 3")
    assert groups_of(answer) == {0: [0, 1, 2]}
    assert answer.excluded == {"without a vector": 1}


@pytest.fixture
def growing(tmp_path: Path) -> tuple[CommitLog, np.ndarray]:
    """A run of 600 rows in two files, of 900 that are planned."""
    vectors = embeddings(900, 8, groups=150)
    store, _ = planned(tmp_path, 900, EMBEDDING_MODEL)
    log = started(store, 900)
    for low in (0, 300):
        log.commit_files(write_vectors(log, low, vectors[low : low + 300]))
    return log, vectors


def check_guarantees(frame: pd.DataFrame, vectors: np.ndarray, threshold: float = 0.97) -> None:
    """Each member is alike its representative, and no two images that remain are alike."""
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    assert (cosines[frame["row_id"], frame["group"]] >= threshold - 1e-5).all()
    remaining = np.setdiff1d(np.arange(len(vectors)), frame["row_id"][~frame["is_representative"]])
    between = cosines[np.ix_(remaining, remaining)] - 2 * np.eye(len(remaining))
    assert between.max() < threshold


def test_only_new_images_are_compared(growing: tuple[CommitLog, np.ndarray]) -> None:
    log, vectors = growing
    first = find_duplicates(log.store.root)
    assert first.new_images == 600
    check_guarantees(first.read(), vectors[:600])
    again = find_duplicates(log.store.root)
    assert again.new_images == 0
    pd.testing.assert_frame_equal(again.read(), first.read())
    log.commit_files(write_vectors(log, 600, vectors[600:], width=[99] * 300))
    later = find_duplicates(log.store.root)
    assert later.new_images == 300
    check_guarantees(later.read(), vectors)
    members = later.read().set_index("row_id")["group"]
    assert first.read().set_index("row_id")["group"].to_dict().items() <= members.to_dict().items()
    assert find_duplicates(log.store.root, restart=True).new_images == 900
    assert find_duplicates(log.store.root, threshold=0.9).new_images == 900, "another threshold is another question"


def test_the_members_of_a_removed_image_are_grouped_anew(growing: tuple[CommitLog, np.ndarray]) -> None:
    log, _ = growing
    first = find_duplicates(log.store.root)
    gone = first.largest_groups[0]["row_id"]
    log.remove_rows([(gone, gone + 1)])
    later = find_duplicates(log.store.root)
    assert later.new_images == first.largest_groups[0]["images"] - 1
    assert later.excluded == {"removed from the source": 1}
    assert gone not in later.read()["row_id"].tolist()
    log.remove_rows([], back=[(gone, gone + 1)])
    assert find_duplicates(log.store.root).new_images == 1


def test_an_image_that_changed_is_grouped_anew(growing: tuple[CommitLog, np.ndarray]) -> None:
    log, vectors = growing
    find_duplicates(log.store.root)
    (old,) = [file for file in log.state.files.values() if file.ranges == ((0, 300),)]
    vectors[7] = -vectors[599]
    log.replace_files([old.path], write_vectors(log, 0, vectors[:300]), [(7, 8)])
    later = find_duplicates(log.store.root)
    assert later.new_images >= 300
    assert 7 not in later.read()["row_id"].tolist()
    check_guarantees(later.read(), vectors[:600])


def test_wrong_requests_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = run_with_vectors(tmp_path, [turned(0)])
    with pytest.raises(UsageError, match=r"expected a threshold from 0.1 to 1, got 97"):
        find_duplicates(store.root, threshold=97)
    with pytest.raises(UsageError, match="there is no column 'sharp'"):
        find_duplicates(store.root, prefer="sharp")
    with pytest.raises(UsageError, match="expected a column of numbers to prefer images by, such as width, got format"):
        find_duplicates(store.root, prefer="format")
    with pytest.raises(OutputError, match="has no embedding model 'faces'; it has embedding"):
        find_duplicates(store.root, model="faces")
    foreign = tmp_path / "mine.parquet"
    pd.DataFrame({"a": [1]}).to_parquet(foreign)
    with pytest.raises(UsageError, match="is no answer of cvbatch duplicates; choose another place with --to"):
        find_duplicates(store.root, to=str(foreign))
    with pytest.raises(UsageError, match=r"is in .*photos, the source of the run"):
        find_duplicates(store.root, to=str(tmp_path / "photos" / "answer.parquet"))
    assert main(["duplicates", str(store.root), "--to", str(tmp_path / "photos")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_run_without_embedding_says_so(tmp_path: Path) -> None:
    root = planned(tmp_path, 1, spec())[0].root
    with pytest.raises(OutputError, match=r"has no embedding model; it has \w+ \(\w+\)"):
        find_duplicates(root)
    answer = find_duplicates(root, exact=True)
    assert (answer.images, answer.groups) == (0, 0)
    assert answer.read().empty


def test_the_command_prints_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = run_with_vectors(tmp_path, [turned(0), turned(1), turned(80)])
    assert main(["duplicates", str(store.root), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["duplicates"] == 1
    assert printed["largest_groups"] == [{"row_id": 0, "image_uri": "/photos/0.jpg", "images": 2}]
    assert main(["duplicates", str(store.root)]) == 0
    assert "/photos/0.jpg" in capsys.readouterr().out
    assert cvbatch.find_duplicates is find_duplicates


def test_an_answer_in_a_bucket(tmp_path: Path, as_job: ObjectServer, out: str) -> None:
    location = Location.from_uri(f"s3://{out}/labels", StorageOptions(endpoint_url=as_job.endpoint))
    store = open_store(location)
    planned_in(store, tmp_path, 2, EMBEDDING_MODEL)
    log = started(store, 2)
    log.commit_files(write_vectors(log, 0, [turned(0), turned(1)], place=location))
    answer = find_duplicates(location)
    assert answer.path == f"s3://{out}/labels-duplicates.parquet"
    assert groups_of(answer) == {0: [0, 1]}
    assert find_duplicates(str(location), storage={"endpoint_url": as_job.endpoint}).new_images == 0
    with pytest.raises(UsageError, match="has no place beside it for the answer: name one with --to"):
        place_answer(open_output(location), Location(f"s3://{out}", location.options), "duplicates", None, None)
