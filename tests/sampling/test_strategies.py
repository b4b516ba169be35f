"""Spread and mixed choices: far from each other, from what is labelled, and of what the model is unsure of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvbatch.errors import OutputError
from cvbatch.sampling.choose import choose_samples
from tests.samples import committed_run, planned, spec

MODELS = (spec(top_k=2), spec("vectors", "embedding", dimension=2))
DEGREES = [0, 1, 40, 41, 80, 180]
SURE = [0.9, 0.6, 0.9, 0.6, 0.9, 1.0]


@pytest.fixture
def output(tmp_path: Path) -> str:
    radians = np.radians(DEGREES)
    columns = {
        "classification_top_scores": [[score, 1 - score] for score in SURE],
        "classification_top_label_ids": [[0, 2]] * 6,
        "vectors_vector": (3 * np.stack([np.cos(radians), np.sin(radians)], axis=1)).tolist(),
    }
    return committed_run(tmp_path, 6, *MODELS, **columns)[0]


def test_the_farthest_from_all_that_are_chosen(output: str) -> None:
    choice = choose_samples(output, 6, by="diversity", where="row_id < 5")
    assert choice.table["row_id"].to_pylist() == [2, 0, 4]
    assert choice.table["score"].to_pylist() == [None, *[pytest.approx(1 - np.cos(np.radians(40)), abs=1e-6)] * 2]
    assert choice.table["reason"].to_pylist() == ["the first one", "cosine 0.77 to row 2", "cosine 0.77 to row 2"]
    assert choice.notes == (
        "3 images are missing: of 5 candidates, 2 are near duplicates of chosen or labelled ones, or over the budget "
        "of their class",
    )


def test_labelled_images_are_centres(output: str) -> None:
    table = choose_samples(output, 2, by="diversity", exclude=[0]).table
    assert table["row_id"].to_pylist() == [5, 4]
    assert table["reason"].to_pylist() == ["cosine -1.00 to a labelled image", "cosine 0.17 to a labelled image"]


def test_mixed_begins_with_the_least_sure_and_goes_far(output: str) -> None:
    choice = choose_samples(output, 4, by="mixed")
    first, *rest = choice.table.to_pylist()
    assert first["row_id"] in (1, 3)
    assert first["reason"] == "a 0.60 or b 0.40; the first one"
    # 5 comes last because the model is sure of it; 0 and 2 are near duplicates of 1 and 3
    assert {row["row_id"] for row in rest} == {1, 3, 4, 5} - {first["row_id"]}
    assert choice.table["row_id"].to_pylist()[-1] == 5
    again = choose_samples(output, 4, by="mixed").table
    assert again.equals(choice.table)


@pytest.mark.parametrize("by", ["diversity", "mixed"])
def test_an_embedding_is_needed(tmp_path: Path, by: str) -> None:
    output = planned(tmp_path, 1, spec())[0].root
    with pytest.raises(OutputError, match=f"has no embedding model, which --by {by} needs; add one to the job"):
        choose_samples(output, by=by)
