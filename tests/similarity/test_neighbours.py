"""The nearest images are those of a plain search, and images are named as a person would."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cvbatch
from cvbatch.cli.parser import main
from cvbatch.errors import UsageError
from cvbatch.similarity.neighbours import find_similar
from tests.samples import planned, started
from tests.similarity.vectors import EMBEDDING_MODEL, embeddings, run_with_vectors, turned, write_vectors


def test_neighbours_are_those_of_a_plain_search(tmp_path: Path) -> None:
    vectors = embeddings(700, 8, groups=90)
    store, _ = planned(tmp_path, 700, EMBEDDING_MODEL)
    log = started(store, 700)
    for low in (0, 300):
        log.commit_files(write_vectors(log, low, vectors[low : low + 400 if low else 300] * (low + 1)))
    log.remove_rows([(5, 9)])
    answer = find_similar(store.root, [3, 650], k=7)
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    np.fill_diagonal(cosines, -2)
    cosines[:, 5:9] = -2
    for query in answer.queries:
        expected = np.argsort(-cosines[query.row_id])[:7]
        assert [neighbour.row_id for neighbour in query.neighbours] == expected.tolist()
        found = [neighbour.cosine for neighbour in query.neighbours]
        np.testing.assert_allclose(found, np.minimum(cosines[query.row_id][expected], 1), atol=1e-6)
    assert answer.images == 696
    frame = answer.to_frame()
    assert frame.columns.tolist() == ["query_row_id", "row_id", "image_uri", "cosine"]
    assert frame["query_row_id"].tolist() == [3] * 7 + [650] * 7


URIS = ["/photos/a/1.jpg", "/photos/b/1.jpg", "/photos/b/11.jpg", "/photos/c.jpg"]


@pytest.fixture
def root(tmp_path: Path) -> str:
    vectors = [turned(0), turned(1), turned(2), None]
    return str(run_with_vectors(tmp_path, vectors, image_uri=URIS).root)


@pytest.mark.parametrize(("name", "row_id"), [("/photos/a/1.jpg", 0), ("b/1.jpg", 1), ("11.jpg", 2), ("1", 1), (2, 2)])
def test_an_image_is_named_by_its_end_or_its_row(root: str, name: str | int, row_id: int) -> None:
    assert find_similar(root, name).queries[0].row_id == row_id


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d.jpg", r"there is no image 'd.jpg'; expected an image_uri .* such as /photos/a/1.jpg, or a row_id"),
        ("1.jpg", r"2 images end with '1.jpg': /photos/a/1.jpg, /photos/b/1.jpg …; name one by more of its path"),
        ("c.jpg", "/photos/c.jpg has no embedding in embedding"),
    ],
)
def test_a_wrong_name_is_one_line(root: str, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_similar(root, name)


def test_fewer_images_than_wanted(root: str) -> None:
    (query,) = find_similar(root, 0, where="row_id <> 1").queries
    assert [neighbour.row_id for neighbour in query.neighbours] == [2]
    with pytest.raises(UsageError, match="expected a number of images from 1 on, got 0"):
        find_similar(root, 0, k=0)


def test_the_command_prints_both_ways(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["similar", root, "--image", "a/1.jpg", "-k", "1", "--json"]) == 0
    (query,) = json.loads(capsys.readouterr().out)["queries"]
    assert query["neighbours"][0]["row_id"] == 1
    assert main(["similar", root, "--image", "0"]) == 0
    assert "/photos/b/11.jpg" in capsys.readouterr().out
    assert cvbatch.find_similar is find_similar
