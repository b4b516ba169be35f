"""Images are chosen by what the model is least sure of, without near duplicates, within the budget of a class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

import cvbatch
from cvbatch.cli.parser import main
from cvbatch.errors import OutputError, UsageError
from cvbatch.sampling.choose import choose_samples
from cvbatch.tasks.masks import encode_mask
from tests.samples import commit, committed_run, planned, spec, started

CLASSES = spec(top_k=2)
BOXES = spec("boxes", "detection")
REGIONS = spec("regions", "segmentation")
VECTORS = spec("vectors", "embedding", dimension=2)
NAMES = {0: "a", 2: "b"}


def class_columns(best: list[float | None], ids: list[int]) -> dict[str, Any]:
    """Two scores for each row; None for a row that failed."""
    pairs = [None if score is None else [score, 1 - score] for score in best]
    orders = [None if score is None else [first, 2 - first] for score, first in zip(best, ids, strict=True)]
    return {
        "classification_top_scores": pairs,
        "classification_top_label_ids": orders,
        "classification_score": best,
        "classification_label_id": ids,
    }


def vector_columns(degrees: list[float]) -> dict[str, Any]:
    radians = np.radians(degrees)
    return {"vectors_vector": np.stack([np.cos(radians), np.sin(radians)], axis=1).tolist()}


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Rows 0 to 5: less and less sure; 5 has failed, 4 and 3 are near duplicates, 0 to 2 are of class a."""
    columns = class_columns([0.9, 0.8, 0.7, 0.6, 0.55, None], [0, 0, 0, 2, 2, 0])
    columns |= vector_columns([0, 30, 60, 90, 93, 0])
    return committed_run(tmp_path, 6, CLASSES, VECTORS, failed=[5], **columns)[0]


def chosen(output: str, count: int = 9, **options: Any) -> list[int]:
    rows: list[int] = choose_samples(output, count, **options).table["row_id"].to_pylist()
    return rows


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [4, 2, 1, 0]),
        ({"count": 2}, [4, 2]),
        ({"measure": "entropy"}, [4, 2, 1, 0]),
        ({"max_cosine": 0.9999}, [4, 3, 2, 1, 0]),
        ({"max_cosine": 0.8}, [4, 1]),
        ({"budget": 1}, [4, 2]),
        ({"budget": {"a": 2}}, [4, 2, 1]),
        ({"classes": ["a"]}, [2, 1, 0]),
        ({"min_score": 0.75}, [1, 0]),
        ({"where": "row_id > 1"}, [4, 2]),
        ({"exclude": [3]}, [2, 1, 0]),
        ({"candidates": 2, "count": 2}, [4]),
        ({"candidates": 2, "count": 2, "budget": 1}, [4, 2]),
    ],
)
def test_the_least_sure_are_chosen(output: str, options: dict[str, Any], expected: list[int]) -> None:
    assert chosen(output, **options) == expected


def test_a_choice_says_why_and_what_is_missing(output: str) -> None:
    choice = choose_samples(output, 5, exclude=[0])
    assert choice.table.to_pylist()[0] == {
        "row_id": 4,
        "image_uri": "/photos/4.jpg",
        "label": "b",
        "score": pytest.approx(0.9),
        "reason": "b 0.55 or a 0.45",
    }
    assert choice.counts == {
        "usable": 4, "error": 1, "removed": 0, "excluded": 1, "nothing_found": 0, "candidates": 4,
    }  # fmt: skip
    assert [note.partition(":")[0] for note in choice.notes] == ["2 images are missing"]


def test_chance_depends_on_the_seed_alone(output: str) -> None:
    orders = [chosen(output, 3, by="random", seed=seed, max_cosine=1) for seed in (0, 0, 1, 2, 3)]
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in orders}) > 2
    assert choose_samples(output, by="random").table["score"].to_pylist()[0] is None


def test_equal_files_are_duplicates_without_an_embedding(tmp_path: Path) -> None:
    digests = {"content_sha256": ["x", "x", None, None]}
    output = committed_run(tmp_path, 4, CLASSES, **class_columns([0.6, 0.7, 0.8, 0.8], [0] * 4), **digests)[0]
    choice = choose_samples(output, 4)
    assert choice.table["row_id"].to_pylist() == [0, 2, 3]
    assert choice.notes[0] == "the run has no embedding, so only files with equal content count as duplicates"
    assert chosen(output, exclude=[1]) == [2, 3]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [(1, 2.0, "2 boxes, the least certain b 0.50"), (0, 0.04, "a 0.90"), (2, 0.0, "no boxes")]),
        ({"aggregate": "max"}, [(1, 1.0, ""), (0, 0.04, ""), (2, 0.0, "")]),
        ({"aggregate": "mean", "measure": "entropy"}, [(1, 1.0, ""), (0, 0.469, ""), (2, 0.0, "")]),
        ({"min_score": 0.6}, [(0, 0.04, "a 0.90")]),
        ({"classes": ["b"]}, [(1, 1.0, "b 0.50")]),
    ],
)
def test_boxes_give_the_value_of_their_image(
    tmp_path: Path, options: dict[str, Any], expected: list[tuple[int, float, str]]
) -> None:
    columns = {
        "boxes_boxes": [[[0, 0, 1, 1]], [[0, 0, 1, 1], [0, 0, 2, 2]], []],
        "boxes_labels": [["a"], ["b", "a"], []],
        "boxes_label_ids": [[0], [2, 0], []],
        "boxes_scores": [[0.9], [0.5, 0.5], []],
    }
    output = committed_run(tmp_path, 3, BOXES, **columns)[0]
    rows = choose_samples(output, **options).table.to_pylist()
    assert [(row["row_id"], row["score"]) for row in rows] == [
        (row, pytest.approx(score, abs=1e-3)) for row, score, _ in expected
    ]
    assert [row["reason"] for row in rows] == [
        reason or row["reason"] for row, (_, _, reason) in zip(rows, expected, strict=True)
    ]


def test_segments_are_measured_by_their_edges(tmp_path: Path) -> None:
    smooth, ragged = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    smooth[2:6, 2:6], ragged[1:-1:2] = True, True
    columns = {
        "regions_labels": [["a"], ["b"], []],
        "regions_label_ids": [[0], [2], []],
        "regions_areas": [[0.25], [0.5], []],
        "regions_masks": [[encode_mask(smooth)], [encode_mask(ragged)], []],
        "width": [8] * 3,
        "height": [8] * 3,
    }
    output = committed_run(tmp_path, 3, REGIONS, **columns)[0]
    table = choose_samples(output).table
    assert table["row_id"].to_pylist() == [1, 0, 2]
    assert table["reason"][1].as_py() == "1 class, with edges on 12.5% of the pixels"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "luck"}, "there is no way to choose 'luck'; there are uncertainty, "),
        ({"count": 0}, "count: expected 1 image or more, got 0"),
        ({"max_cosine": 1.5}, "max_cosine: expected a number over 0 and up to 1, such as 0.97, got 1.5"),
        ({"candidates": 3}, r"candidates: expected at least as many as images are chosen \(9\), got 3"),
        ({"measure": "edges"}, "there is no measure of a classification model 'edges'; there are margin, entropy"),
        ({"aggregate": "sun"}, "there is no aggregate 'sun'; there is sum"),
        ({"budget": {"c": 1}}, "there is no class 'c'; there are a, b"),
        ({"budget": {"a": 0}}, "budget: expected 1 image or more of 'a', got 0"),
        ({"model": "dogs"}, "no model with labels 'dogs'; it has classification"),
        ({"embedding": "dogs"}, "no embedding model 'dogs'; it has vectors"),
    ],
)
def test_a_wrong_request_is_one_line(output: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(output, **options)


def test_several_models_must_be_told_apart(tmp_path: Path) -> None:
    several = planned(tmp_path / "several", 1, CLASSES, BOXES)[0].root
    with pytest.raises(OutputError, match="several models with labels; name one of classification, boxes"):
        choose_samples(several)
    bare = planned(tmp_path / "bare", 1, VECTORS)[0].root
    with pytest.raises(OutputError, match=r"no model with labels; it has \w+ \(\w+\)"):
        choose_samples(bare)
    assert choose_samples(bare, by="random").table.num_rows == 0


def test_the_committed_rows_of_a_run_that_goes_on(tmp_path: Path) -> None:
    store, _ = planned(tmp_path, 4)
    log = started(store, 4)
    commit(log, 0, 2, failed=[0])
    choice = choose_samples(store.root, by="random")
    assert (choice.table["row_id"].to_pylist(), choice.counts["error"]) == ([1], 1)


@pytest.mark.parametrize("name", ["next.csv", "next.parquet"])
def test_the_command_writes_a_file_that_excludes(
    output: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / name)
    assert main(["sample", output, "-n", "2", "--to", path]) == 0
    assert "2 of 5 images, by uncertainty" in capsys.readouterr().out
    assert main(["sample", output, "-n", "2", "--exclude", path, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [image["row_id"] for image in answer["images"]] == [1, 0]
    assert answer["counts"]["excluded"] == 2
    assert cvbatch.choose_samples is choose_samples


def test_the_command_exports_what_it_chooses(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "next.csv"
    assert main(["sample", output, "-n", "2", "--format", "csv", "--to", str(path)]) == 0
    assert {int(row["row_id"]) for row in pacsv.read_csv(path).to_pylist()} == {4, 2}
    assert "written to" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "csv"], "--format csv: expected where to write, such as --to next"),
        (["--format", "word", "--to", "x"], "there is no format 'word'; there are"),
        (["--to", "next.xlsx"], "--to: expected a file that ends with .csv or .parquet, got 'next.xlsx'"),
        (["--to", "/nowhere/next.csv"], "--to: cannot write '/nowhere/next.csv'"),
        (["--exclude", "/nowhere/next.csv"], "--exclude: there is no file '/nowhere/next.csv'"),
        (["--exclude", "{folder}/other.parquet"], "has no column row_id; it has a"),
        (
            ["--budget", "dog=x"],
            "argument --budget: expected a number, or names with numbers as dog=50,cat=20, got 'x'",
        ),
        (["-n", "0"], "argument -n/--count: expected a positive whole number, got '0'"),
    ],
)
def test_a_wrong_option_is_one_line(
    output: str, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa

    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    try:
        code: Any = main(["sample", output, *(argument.format(folder=tmp_path) for argument in arguments)])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert message in captured.err
    assert captured.err.count("\n") == 1
