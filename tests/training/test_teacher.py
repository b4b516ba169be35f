"""Predictions of a run as truth of a training."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cvbatch.errors import CvbatchError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import make_plan
from cvbatch.sources import open_source
from cvbatch.training.plan import make_training_plan, read_planned_images
from cvbatch.training.target_column import TARGET
from tests import samples
from tests.training.samples import CLASSES, patterns, train_job

NAMES = (*CLASSES, "waves")
EACH = 4


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patterns(tmp_path_factory.mktemp("images") / "patterns", EACH)


def labelled(folder: Path, images: Path, *, finish: bool = True, **columns: Any) -> Path:
    """A run that is sure of the first images of each class, less of the others, and wrong about the very last one."""
    store = LocalStore(str(folder / "labels"))
    model = samples.spec("shape", categories=NAMES, top_k=2)
    asked = samples.job(images, store.root)
    rows = EACH * len(CLASSES)
    make_plan(store, asked, [model], open_source(asked.source))
    files = sorted(images.rglob("*.png"))
    ids = [number // EACH for number in range(rows - 1)] + [0]
    scores = [0.9 - 0.1 * (number % EACH) for number in range(rows)]
    values: dict[str, Any] = {
        "image_uri": [str(file) for file in files],
        "content_sha256": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
        "shape_label_id": ids,
        "shape_label": [NAMES[label] for label in ids],
        "shape_score": scores,
        "shape_top_label_ids": [[label, 3 if label else 1] for label in ids],
        "shape_top_labels": [[NAMES[label], NAMES[3 if label else 1]] for label in ids],
        "shape_top_scores": [[score, 0.05] for score in scores],
        **columns,
    }
    log = samples.commit_rows(store, rows, model, **values)
    if finish:
        finish_run(log)
    return folder / "labels"


def planned_targets(folder: Path, images: Path, truth: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The plan, and the target of each image by its name."""
    store = LocalStore(str(folder / "model"))
    plan = make_training_plan(store, train_job(images, folder / "model", truth=truth), lambda _: None)
    rows = read_planned_images(store, plan)
    names = ["/".join(uri.split("/")[-2:]) for uri in rows["image_uri"].to_pylist()]
    return plan, dict(zip(names, rows[TARGET].to_pylist(), strict=True))


def test_scores_are_kept_and_low_ones_take_no_part(images: Path, tmp_path: Path) -> None:
    output = labelled(tmp_path, images)
    plan, targets = planned_targets(tmp_path, images, {"uri": str(output), "min_score": 0.65})
    assert plan.categories == CLASSES
    assert len(targets) == 9
    assert "3 predictions have a lower score than 0.65" in plan.notes
    assert plan.truth_layout == "predictions of cvbatch run: shape, m:f"
    bars, checks = targets["bars/000.png"], targets["checks/001.png"]
    assert (bars["label"], bars["label_ids"]) == (0, [0, 1])
    assert bars["shares"] == pytest.approx([0.9, 0.05])
    # `waves` is no class of the student, so its share is taken from the whole
    assert (checks["label"], checks["label_ids"]) == (1, [1])
    assert checks["shares"] == pytest.approx([0.8 / 0.95])


def test_corrections_are_certain_and_may_bring_classes(images: Path, tmp_path: Path) -> None:
    output = labelled(tmp_path, images)
    (tmp_path / "corrected.csv").write_text(
        "image,label\nstripes/003.png,Stripes\nbars/000.png,dots\nbars/003.png,bars\nnowhere/1.png,bars\n"
    )
    truth = {"uri": str(output), "min_score": 0.65, "corrections": str(tmp_path / "corrected.csv")}
    plan, targets = planned_targets(tmp_path, images, truth)
    assert plan.categories == (*CLASSES, "dots")
    assert targets["bars/000.png"] == {"label": 3, "label_ids": [3], "shares": [1.0]}
    assert targets["stripes/003.png"] == {"label": 2, "label_ids": [2], "shares": [1.0]}
    assert len(targets) == 11, "those that are corrected take part whatever their score"
    assert "3 images are corrected, 2 of them to another class" in plan.notes
    assert "1 corrections are about no image of the run that has a prediction" in plan.notes


def test_images_are_known_by_their_content(images: Path, tmp_path: Path) -> None:
    output = labelled(tmp_path, images)
    moved = patterns(tmp_path / "moved", EACH)
    _, targets = planned_targets(tmp_path, moved, {"uri": str(output)})
    assert len(targets) == EACH * len(CLASSES)


def test_what_cannot_teach_is_refused_in_one_line(images: Path, tmp_path: Path) -> None:
    output = labelled(tmp_path / "a", images)
    unfinished = labelled(tmp_path / "b", images, finish=False)
    vectors = tmp_path / "c"
    other_task: ModelSpec = samples.spec("vector", "embedding", categories=(), dimension=3)
    root, log = samples.committed_run(vectors, 2, other_task)
    finish_run(log)
    failed = labelled(tmp_path / "d", images, **dict.fromkeys(COLUMNS, [None] * EACH * len(CLASSES)))
    others = patterns(tmp_path / "others", EACH, seed=5)
    (tmp_path / "other.csv").write_text("image,label\nelsewhere.png,bars\n")
    for truth, source, message in (
        ({"uri": str(unfinished)}, images, "expected a finished run as truth"),
        ({"uri": str(root)}, images, r"has no classification model; it has vector \(embedding\)"),
        ({"uri": str(failed)}, images, "expected predictions to learn from, got none: 12 images in error"),
        ({"uri": str(output), "model": "no"}, images, "has no classification model 'no'; it has shape"),
        ({"uri": str(output), "min_score": 0.99}, images, "at most 0.900; lower truth.min_score"),
        ({"uri": str(output)}, others, r"truth about images of the source, .*; got .*\.png, and no name fits"),
        ({"uri": str(output), "corrections": str(tmp_path / "other.csv")}, images, "corrections of images of the run"),
        ({"uri": str(images), "min_score": 0.5}, images, "truth.min_score: belongs to predictions"),
    ):
        with pytest.raises(CvbatchError, match=message) as error:
            planned_targets(tmp_path, source, truth)
        assert "\n" not in str(error.value)


COLUMNS = ("shape_label_id", "shape_label", "shape_score", "shape_top_label_ids", "shape_top_scores")
