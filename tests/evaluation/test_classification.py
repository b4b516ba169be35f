"""A run of a classifier against its truth: the same numbers as scikit-learn on the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics

from cvbatch.errors import UsageError
from cvbatch.evaluation.evaluate import evaluate
from cvbatch.evaluation.report import Metrics
from tests.evaluation.label_runs import classifier, label_run

NAMES = ("ant", "bee", "cat", "cat", "dog", "eel", "fox")
MODEL = classifier(NAMES, top_k=3)
IMAGES = 120


@pytest.fixture(scope="module")
def scores() -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(5)
    weights = generator.random((IMAGES, len(NAMES))) ** 4
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def truth(scores: npt.NDArray[np.float64]) -> list[str]:
    generator = np.random.default_rng(6)
    return [NAMES[row.argmax()] if generator.random() < 0.6 else str(generator.choice(NAMES)) for row in scores]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory, scores: npt.NDArray[np.float64]) -> str:
    width = [32 if row % 2 else 2000 for row in range(IMAGES)]
    return label_run(tmp_path_factory.mktemp("run"), MODEL, scores, failed=[4], width=width, height=width)


@pytest.fixture
def table(tmp_path: Path, truth: list[str]) -> str:
    lines = [f"{row:04d}.jpg,{name}" for row, name in enumerate(truth)]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,label", *lines]))
    return str(tmp_path / "labels.csv")


def expected_values(
    scores: npt.NDArray[np.float64], truth: list[str], rows: list[int]
) -> tuple[list[str], list[str], float]:
    names = [NAMES[label] for label in scores[rows].argmax(axis=1)]
    true = [truth[row] for row in rows]
    best = np.argsort(-scores[rows], axis=1)[:, :3]
    return true, names, float(np.mean([name in {NAMES[i] for i in top} for name, top in zip(true, best, strict=True)]))


def check(measured: Metrics, scores: npt.NDArray[np.float64], truth: list[str], rows: list[int]) -> None:
    true, names, top_3 = expected_values(scores, truth, rows)
    assert measured.images == len(rows)
    assert measured.values["top-1"] == pytest.approx(metrics.accuracy_score(true, names))
    assert measured.values["top-3"] == pytest.approx(top_3)
    expected = metrics.classification_report(true, names, output_dict=True, zero_division=0)
    for short, name in (("precision", "precision"), ("recall", "recall"), ("F1", "f1-score")):
        assert measured.values[f"macro {short}"] == pytest.approx(expected["macro avg"][name])
        for label in {*true, *names}:
            assert measured.per_class[label][short] == pytest.approx(expected[label][name]), label
    assert all(
        low <= measured.values[name] <= high for name, (low, high) in measured.intervals.items() if "cal" not in name
    )


def test_numbers_equal_those_of_scikit_learn(
    output: str, table: str, scores: npt.NDArray[np.float64], truth: list[str]
) -> None:
    report = evaluate(output, table, by="size")
    rows = [row for row in range(IMAGES) if row != 4]
    check(report.metrics["classification"], scores, truth, rows)
    assert report.alignment.failed == 1
    assert "classes of classification with the same name count as one: cat" in report.notes
    small, large = report.slices.values()
    check(small["classification"], scores, truth, [row for row in rows if row % 2])
    check(large["classification"], scores, truth, [row for row in rows if not row % 2])


def test_details_add_up(output: str, table: str) -> None:
    measured = evaluate(output, table).metrics["classification"]
    cells = measured.details["confusion"]
    assert sum(count for _, _, count in cells) == measured.images
    wrong = sorted((count for true, answer, count in cells if true != answer), reverse=True)
    assert [row["images"] for row in measured.tables["most confused"]] == wrong[:10]
    assert sum(part["images"] for part in measured.details["calibration_bins"]) == measured.images
    low, high = measured.details["class_intervals"]["ant"]["recall"]
    assert low <= measured.per_class["ant"]["recall"] <= high


def test_classes_scores_and_conditions_select_images(
    output: str, table: str, scores: npt.NDArray[np.float64], truth: list[str]
) -> None:
    rows = [row for row in range(IMAGES) if row != 4 and truth[row] in ("ant", "cat") and scores[row].max() >= 0.5]
    report = evaluate(output, table, classes=["ant", "cat"], min_score=0.5)
    check(report.metrics["classification"], scores, truth, rows)
    assert f"{IMAGES - 1 - len(rows)} images left out: another class, or a score below the least one" in report.notes
    odd = evaluate(output, table, where="width < 100")
    check(odd.metrics["classification"], scores, truth, list(range(1, IMAGES, 2)))


def test_without_an_image_to_judge_there_is_one_line(output: str, table: str) -> None:
    with pytest.raises(UsageError, match=r"expected images with an answer of classification and a class in .*got none"):
        evaluate(output, table, min_score=1.1)


def test_a_class_that_the_model_does_not_know_is_wrong(tmp_path: Path) -> None:
    output = label_run(tmp_path, classifier(("a", "b"), top_k=1), np.array([[0.9, 0.1], [0.2, 0.8]]))
    (tmp_path / "t.csv").write_text("file,label\n0000.jpg,a\n0001.jpg,newt\n")
    measured = evaluate(output, str(tmp_path / "t.csv")).metrics["classification"]
    assert measured.values["top-1"] == 0.5
    assert measured.per_class["newt"] == {"images": 1, "answers": 0, "precision": 0.0, "recall": 0.0, "F1": 0.0}
    assert "top-5" not in measured.values, "there are two classes"
