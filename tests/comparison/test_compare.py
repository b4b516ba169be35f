"""Two runs against each other, for each task, and against truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics

from cvbatch.cli.parser import main
from cvbatch.comparison.compare import compare_runs
from cvbatch.errors import OutputError, UsageError
from cvbatch.evaluation.evaluate import evaluate
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.sampling.choose import choose_samples
from tests.evaluation.generated_objects import generate, write_run, write_truth
from tests.evaluation.label_runs import classifier, label_run
from tests.evaluation.test_segmentation import ANSWERS, MODEL, TRUTH, segment_run, write_masks
from tests.samples import block, planned, spec, started

NAMES = ("ant", "bee", "cat", "dog")
IMAGES = 400


def random_scores(seed: int, truth: npt.NDArray[np.int64], skill: float) -> npt.NDArray[np.float64]:
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(truth), len(NAMES))) + skill * np.eye(len(NAMES))[truth]
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def truth() -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, len(NAMES), IMAGES)


@pytest.fixture(scope="module")
def scores(truth: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float64]]:
    return [random_scores(1, truth, 1.5), random_scores(2, truth, 3.0)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, scores: list[npt.NDArray[np.float64]]) -> list[str]:
    """The second model numbers its classes in another order."""
    folder = tmp_path_factory.mktemp("runs")
    second = classifier(NAMES[::-1], top_k=2)
    return [
        label_run(folder / "1", classifier(NAMES, top_k=2), scores[0]),
        label_run(folder / "2", second, scores[1][:, ::-1], failed=[3]),
    ]


@pytest.fixture
def table(tmp_path: Path, truth: npt.NDArray[np.int64]) -> str:
    lines = [f"{row:04d}.jpg,{NAMES[label]}" for row, label in enumerate(truth)]
    (tmp_path / "labels.csv").write_text("\n".join(["file_name,label", *lines]))
    return str(tmp_path / "labels.csv")


def test_classes_are_compared_by_name(runs: list[str], scores: list[npt.NDArray[np.float64]]) -> None:
    report = compare_runs(*runs, review=3)
    labels = [np.delete(side.argmax(axis=1), 3) for side in scores]
    best = np.minimum(*(np.delete(side.max(axis=1), 3) for side in scores))
    assert report.agreement.images == IMAGES - 1
    assert report.agreement.values["same class"] == pytest.approx(np.mean(labels[0] == labels[1]))
    expected = metrics.confusion_matrix(*labels)
    flips = {(row["first"], row["second"]): row["count"] for row in report.agreement.flips}
    assert flips == {
        (NAMES[row], NAMES[column]): expected[row, column]
        for row, column in np.ndindex(4, 4)
        if row != column and expected[row, column]
    }
    review = [min(row["first_score"], row["second_score"]) for row in report.agreement.review]
    assert review == pytest.approx(sorted(best[labels[0] != labels[1]], reverse=True)[:3])
    assert report.pairs.to_json()["failed_second"] == 1
    assert report.verdict is None


def test_classes_and_scores_select_images(runs: list[str], scores: list[npt.NDArray[np.float64]]) -> None:
    labels = [np.delete(side.argmax(axis=1), 3) for side in scores]
    best = np.minimum(*(np.delete(side.max(axis=1), 3) for side in scores))
    chosen = ((labels[0] == 0) | (labels[1] == 0)) & (best >= 0.5)
    report = compare_runs(*runs, classes=["ant"], min_score=0.5)
    assert report.agreement.images == chosen.sum()
    assert report.agreement.values["images that differ"] == (chosen & (labels[0] != labels[1])).sum()


def test_with_truth_the_better_run_is_named(
    runs: list[str], table: str, truth: npt.NDArray[np.int64], scores: list[npt.NDArray[np.float64]]
) -> None:
    report = compare_runs(*runs, truth=table)
    true = np.delete(truth, 3)
    labels = [np.delete(side.argmax(axis=1), 3) for side in scores]
    assert report.truth is not None
    found = report.truth.differences
    assert list(found) == ["top-1", "top-2", "balanced accuracy", "macro F1", "calibration error"]
    for name, score in {
        "top-1": metrics.accuracy_score,
        "balanced accuracy": metrics.balanced_accuracy_score,
        "macro F1": lambda *sides: metrics.f1_score(*sides, average="macro"),
    }.items():
        assert found[name].first == pytest.approx(score(true, labels[0]))
        assert found[name].second == pytest.approx(score(true, labels[1]))
        assert found[name].difference.low < found[name].difference.value < found[name].difference.high
    assert report.verdict == "better"
    assert compare_runs(*runs[::-1], truth=table).verdict == "worse"
    test = report.truth.mcnemar
    assert test is not None
    right = [side == true for side in labels]
    assert (test.only_first, test.only_second) == ((right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum())
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, len(true), len(true)) for _ in range(800)]
    gains = [np.mean(right[1][index]) - np.mean(right[0][index]) for index in drawn]
    interval = (found["top-1"].difference.low, found["top-1"].difference.high)
    np.testing.assert_allclose(interval, np.quantile(gains, [0.025, 0.975]), atol=0.012)


def test_a_run_is_not_worse_than_itself(runs: list[str], table: str) -> None:
    report = compare_runs(runs[0], runs[0], truth=table)
    assert report.agreement.values["same class"] == 1
    assert report.agreement.review == []
    assert report.verdict == "not worse"
    assert report.truth is not None
    assert report.truth.mcnemar is not None
    assert report.truth.mcnemar.p_value == 1


def commit(folder: Path, model: ModelSpec, columns: dict[str, list[Any]]) -> str:
    count = len(next(iter(columns.values())))
    store, _ = planned(folder, count, model)
    log = started(store, count)
    values = {f"{model.alias}_{name}": column for name, column in columns.items()}
    rows = block(0, count, model, content_sha256=[f"{row + 1:064x}" for row in range(count)], **values)
    log.commit_files(write_data_files(WriteContext(store.root, log.epoch, rows_schema([model])), [rows]).files)
    return str(store.root)


def test_boxes_agree_by_class_and_place(tmp_path: Path) -> None:
    model = replace(spec("boxes", "detection"), categories=(None, "cat", "dog"))
    near, far, other = [0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 9]
    first = {
        "boxes": [[near, far], [near], [], [near]],
        "label_ids": [[1, 2], [1], [], [1]],
        "scores": [[0.9, 0.8], [0.9], [], [0.2]],
    }
    second = {
        "boxes": [[other, far], [other], [far], []],
        "label_ids": [[1, 2], [2], [1], []],
        "scores": [[0.9, 0.4], [0.5], [0.6], []],
    }
    runs = [commit(tmp_path / str(side), model, columns) for side, columns in enumerate((first, second))]
    report = compare_runs(*runs).agreement
    assert dict(report.values) == {
        "matched boxes": 4 / 7,
        "boxes of the first": 3,
        "boxes of the second": 4,
        "boxes with another class": 1,
        "images without a difference": 2,
    }
    assert [{**row, "examples": 1} for row in report.flips] == [
        {"first": "cat", "second": "dog", "count": 1, "examples": 1}
    ]
    assert [(row["only_first"], row["only_second"]) for row in report.review] == [("cat", "dog"), ("", "cat")]
    assert report.per_class["dog"] == {"first": 1, "second": 2, "matched": 2 / 3}
    assert compare_runs(*runs, classes=["dog"]).agreement.values["boxes of the first"] == 1
    assert compare_runs(*runs, min_score=0.1).agreement.values["boxes of the first"] == 4


def test_vectors_agree_by_their_cosine(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(50, 8)).astype(np.float32)
    changed = vectors.copy()
    changed[7] *= -2
    model = replace(spec("features", "embedding"), dimension=8)
    runs = [
        commit(tmp_path / str(side), model, {"vector": part.tolist()}) for side, part in enumerate((vectors, changed))
    ]
    report = compare_runs(*runs).agreement
    assert report.values["mean cosine"] == pytest.approx(48 / 50)
    assert report.values["lowest cosine"] == pytest.approx(-1)
    assert report.values["median cosine"] == pytest.approx(1, abs=1e-4)
    assert report.values["share of at least 0.999"] == pytest.approx(49 / 50)
    assert [row["cosine"] for row in report.review] == [pytest.approx(-1)]
    other = commit(tmp_path / "3", replace(model, dimension=4), {"vector": vectors[:, :4].tolist()})
    with pytest.raises(UsageError, match="features with 8 numbers and features with 4 numbers"):
        compare_runs(runs[0], other)
    with pytest.raises(UsageError, match="there is no truth for embedding models"):
        compare_runs(*runs, truth=str(tmp_path))


def test_segments_agree_by_pixels_and_truth_says_which_is_better(tmp_path: Path) -> None:
    runs = [segment_run(tmp_path / "1", MODEL, ANSWERS), segment_run(tmp_path / "2", MODEL, TRUTH)]
    masks = write_masks(tmp_path / "masks", TRUTH)
    report = compare_runs(*runs, truth=masks)
    same = np.stack(ANSWERS) == np.stack(TRUTH)
    assert report.pairs.matched_by == "image_uri"
    assert report.agreement.values["same pixels"] == pytest.approx(same.mean())
    assert report.agreement.review[0]["same_pixels"] == pytest.approx(same.mean(axis=(1, 2)).min())
    assert sum(row["count"] for row in report.agreement.flips) == (~same).sum()
    assert report.verdict == "better"
    assert report.truth is not None
    assert report.truth.differences["mIoU"].second == 1
    assert report.truth.mcnemar is None


def test_detections_are_judged_by_a_jackknife(tmp_path: Path) -> None:
    truth, results = generate(24)
    outputs = []
    for name, part in (("few", results[::3]), ("all", results)):
        write_run(tmp_path / name, 24, part)
        outputs.append(str(tmp_path / name / "out"))
    path = str(write_truth(tmp_path, truth))
    report = compare_runs(*outputs, truth=path)
    assert report.truth is not None
    gain = report.truth.differences["AP"]
    assert gain.first == evaluate(outputs[0], path).metrics["boxes"].values["AP"]
    assert gain.second == evaluate(outputs[1], path).metrics["boxes"].values["AP"]
    assert gain.difference.low < gain.difference.value < gain.difference.high
    assert report.truth.interval == "jackknife over 20 groups of images"
    assert report.verdict == "better"
    assert compare_runs(outputs[1], outputs[1], truth=path).verdict == "not worse"


def test_the_command_prints_tables_and_json(runs: list[str], table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", *runs, "--truth", table]) == 0
    printed = capsys.readouterr().out
    for text in (
        "images in both: 399",
        "agreement, 399 images",
        "flips",
        "to look at",
        "the second run is better",
        "p =",
    ):
        assert text in printed
    assert main(["compare", *runs, "--truth", table, "--margin", "0.5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["truth"]["verdict"] == "better"
    assert answer["truth"]["differences"]["top-1"]["verdict"] == "better"
    assert answer["alignment"]["images"] == 399


def test_wrong_requests_are_one_line(runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OutputError, match=r"expected the model 'x'; it has classification \(classification\)"):
        compare_runs(*runs, model="x")
    regions = segment_run(tmp_path / "1", MODEL, ANSWERS)
    with pytest.raises(OutputError, match=r"expected one model that both runs have, got classification .* and regions"):
        compare_runs(runs[0], regions)
    with pytest.raises(OutputError, match="expected models of one task, got classification and segmentation"):
        compare_runs(runs[0], regions, model="classification", second_model="regions")
    with pytest.raises(UsageError, match=r"expected a margin of 0 or more"):
        compare_runs(*runs, margin=-1)
    assert main(["compare", runs[0], str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_margin_or_score_that_is_no_number_is_refused(runs: list[str], table: str) -> None:
    nan = float("nan")
    with pytest.raises(UsageError, match=r"expected a margin of 0 or more .* got nan"):
        compare_runs(*runs, margin=nan)
    for call in (
        lambda: compare_runs(*runs, min_score=nan),
        lambda: evaluate(runs[0], table, min_score=nan),
        lambda: choose_samples(runs[0], 1, min_score=nan),
    ):
        with pytest.raises(UsageError, match=r"min_score: expected a number such as 0\.5, got nan"):
            call()
