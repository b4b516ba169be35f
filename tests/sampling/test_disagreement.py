"""Images about which two models disagree come first; both may name their classes by other ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cvbatch.errors import OutputError, UsageError
from cvbatch.sampling.choose import choose_samples
from tests.samples import committed_run, planned, spec


def rows_of(tmp_path: Path, models: list[Any], columns: dict[str, Any], **options: Any) -> list[tuple[Any, ...]]:
    output = committed_run(tmp_path, len(next(iter(columns.values()))), *models, **columns)[0]
    table = choose_samples(output, by="disagreement", **options).table
    return list(zip(*(table[name].to_pylist() for name in ("row_id", "label", "score", "reason")), strict=True))


@pytest.mark.parametrize("names", [("a", None, "b"), ("b", "x", "a")])
def test_classes(tmp_path: Path, names: tuple[str | None, ...]) -> None:
    other = dict(zip(names, range(3), strict=True))
    columns = {
        "one_top_label_ids": [[0, 2], [0, 2], [2, 0]],
        "one_top_scores": [[0.75, 0.25], [0.5, 0.25], [1.0, 0.0]],
        "two_top_label_ids": [[other["a"], other["b"]], [other["a"], other["b"]], [other["a"], other["b"]]],
        "two_top_scores": [[0.5, 0.5], [0.5, 0.0], [1.0, 0.0]],
    }
    rows = rows_of(tmp_path, [spec("one", top_k=2), spec("two", top_k=2, categories=names)], columns)
    assert rows == [
        (2, "b", pytest.approx(1), "b 1.00 against a 1.00"),
        (0, "a", pytest.approx(0.25), "a 0.75 against a 0.50"),
        (1, "a", pytest.approx(0.25), "a 0.50 against a 0.50"),
    ]


def test_segments(tmp_path: Path) -> None:
    columns = {
        "one_labels": [["a", "b"], [], ["a"]],
        "one_label_ids": [[0, 2], [], [0]],
        "one_areas": [[0.5, 0.5], [], [0.3]],
        "one_masks": [[b"", b""], [], [b""]],
        "two_labels": [["b"], [], ["a"]],
        "two_label_ids": [[2], [], [0]],
        "two_areas": [[1.0], [], [0.2]],
        "two_masks": [[b""], [], [b""]],
    }
    rows = rows_of(tmp_path, [spec(alias, "segmentation") for alias in ("one", "two")], columns)
    assert rows == [
        (0, "a", pytest.approx(0.5), "a 0.50 against b 1.00"),
        (2, "a", pytest.approx(0.1), "a 0.30 against a 0.20"),
        (1, None, pytest.approx(0), "nothing against nothing"),
    ]


BOX, FAR = [0.0, 0, 10, 10], [50.0, 50, 60, 60]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {},
            [
                (1, "b", 1.5, "2 of 2 boxes from one model alone, the surest b 0.80"),
                (0, "a", 0.5, "1 of 3 boxes from one model alone, the surest a 0.50"),
                (2, None, 0.0, "no boxes"),
            ],
        ),
        ({"classes": ["a"]}, [(1, "a", 0.7, ""), (0, "a", 0.5, "")]),
        ({"min_score": 0.75}, [(1, "b", 0.8, "")]),
        ({"min_score": 0.0}, [(1, "b", 1.5, ""), (0, "a", 0.5, ""), (2, "b", 0.1, "")]),
    ],
)
def test_boxes(tmp_path: Path, options: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    columns = {
        "one_boxes": [[BOX, FAR], [BOX], []],
        "one_labels": [["a", "a"], ["a"], []],
        "one_label_ids": [[0, 0], [0], []],
        "one_scores": [[0.9, 0.5], [0.7], []],
        "two_boxes": [[BOX], [BOX], [BOX]],
        "two_labels": [["a"], ["b"], ["b"]],
        "two_label_ids": [[0], [2], [2]],
        "two_scores": [[0.9], [0.8], [0.1]],
    }
    rows = rows_of(tmp_path, [spec(alias, "detection") for alias in ("one", "two")], columns, **options)
    assert [row[:3] for row in rows] == [(row, label, pytest.approx(score)) for row, label, score, _ in expected]
    if not options:
        assert [row[3] for row in rows] == [reason for *_, reason in expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "3 pairs of models of one task .* expected two names of one, two, three, boxes"),
        ({"model": "one"}, "2 pairs of models"),
        ({"model": "one", "other_model": "one"}, "no two models"),
        ({"model": "one", "other_model": "boxes"}, "no two models"),
        ({"model": "four"}, "no model with labels 'four'; it has one, two, three, boxes"),
        ({"model": "one", "other_model": "three"}, r"one and three have no class in common \('a', 'c'\)"),
    ],
)
def test_a_wrong_pair_is_one_line(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    models = [spec("one"), spec("two"), spec("three", categories=("c",)), spec("boxes", "detection")]
    output = planned(tmp_path, 1, *models)[0].root
    with pytest.raises((OutputError, UsageError), match=message):
        choose_samples(output, by="disagreement", **options)
    assert choose_samples(output, by="disagreement", model="two", other_model="one").table.num_rows == 0
