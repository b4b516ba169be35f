"""Clusters are those that the vectors were made from; they are numbered by size and have names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import cvbatch
from cvbatch.cli.parser import main
from cvbatch.errors import UsageError
from cvbatch.models.spec import rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.similarity.clusters import find_clusters
from tests.samples import block, planned, spec, started
from tests.similarity.vectors import EMBEDDING_MODEL, run_with_vectors, turned

CLASSES = spec()
ANGLES = [0.0, 90.0, 180.0]
SIZES = [50, 30, 20]


@pytest.fixture
def run_with_classes(tmp_path: Path) -> tuple[str, np.ndarray]:
    """Images around three directions, in any order; those of one direction have class b, the others a."""
    kinds = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], SIZES))
    store, _ = planned(tmp_path, 100, EMBEDDING_MODEL, CLASSES)
    vectors = [turned(ANGLES[kind] + row % 7) for row, kind in enumerate(kinds)]
    rows = block(
        0,
        100,
        EMBEDDING_MODEL,
        CLASSES,
        failed=[99],
        embedding_vector=[*vectors[:99], None],
        content_sha256=["00" * 32] * 100,
        classification_label_id=[*(2 if kind == 1 else 0 for kind in kinds[:99]), None],
    )
    log = started(store, 100)
    context = WriteContext(store.root, log.epoch, rows_schema([EMBEDDING_MODEL, CLASSES]))
    log.commit_files(write_data_files(context, [rows]).files)
    return str(store.root), kinds


def test_clusters_of_three_directions(run_with_classes: tuple[str, np.ndarray]) -> None:
    root, kinds = run_with_classes
    answer = find_clusters(root, 3)
    frame = answer.read()
    assert frame["row_id"].tolist() == list(range(99))
    assert frame["cluster"].tolist() == kinds[:99].tolist()
    assert [facts.images for facts in answer.clusters] == frame["cluster"].value_counts().sort_index().tolist()
    assert [(facts.label, facts.label_share) for facts in answer.clusters] == [("a", 1.0), ("b", 1.0), ("a", 1.0)]
    assert (answer.images, answer.excluded) == (99, {"errors": 1})
    for facts in answer.clusters:
        best = frame[frame["cluster"] == facts.cluster].nlargest(1, "cosine")
        assert frame["cosine"][facts.row_id] == best["cosine"].iloc[0]
        assert frame["is_representative"][facts.row_id]
    assert frame["is_representative"].sum() == 3
    assert find_clusters(root, 3).read().equals(frame), "the seed decides"


def test_the_number_of_clusters_and_wrong_ones(tmp_path: Path) -> None:
    store = run_with_vectors(tmp_path, [turned(30.0 * row) for row in range(8)])
    assert len(find_clusters(store.root).clusters) == 2
    assert find_clusters(store.root).clusters[0].label is None
    with pytest.raises(UsageError, match="has 8 images with an embedding; expected 9"):
        find_clusters(store.root, 9)
    with pytest.raises(UsageError, match="expected a number of clusters from 1 on, got 0"):
        find_clusters(store.root, 0)


def test_the_command_prints_both_ways(
    run_with_classes: tuple[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, _ = run_with_classes
    place = str(tmp_path / "mine.parquet")
    assert main(["cluster", root, "--clusters", "2", "--to", place, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["path"] == place
    assert len(printed["clusters"]) == 2
    assert main(["cluster", root, "--clusters", "3"]) == 0
    assert "b 100%" in capsys.readouterr().out
    assert cvbatch.find_clusters is find_clusters
