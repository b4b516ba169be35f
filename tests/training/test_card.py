"""The model card, and the validation images that are labelled for it."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

import cvbatch
from cvbatch.config.job import SourceConfig
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.store import open_store
from cvbatch.results.summary import run_status
from cvbatch.sources import open_source
from cvbatch.training.card import write_card
from cvbatch.training.curves import all_plots
from cvbatch.training.fitting import TrainingReport
from cvbatch.training.plan import read_planned_images
from tests.training.samples import CLASSES, patterns, train, train_job

CARD = {"intended_use": "It sorts | patterns.", "licence": "MIT", "limits": "Not for photos."}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> TrainingReport:
    folder = tmp_path_factory.mktemp("training")
    return train(train_job(patterns(folder / "patterns"), folder / "out", card=CARD), judged=True)


def card_of(report: TrainingReport) -> str:
    return Path(report.output, "README.md").read_text()


def table(card: str, head: str) -> dict[str, list[str]]:
    """The rows of the table whose head begins so, by their first cell."""
    lines = card.split(f"\n| {head}", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {first: rest for first, *rest in cells}


def test_a_card_says_what_was_learned_and_what_it_is_for(report: TrainingReport) -> None:
    card, plan = card_of(report), report.plan
    assert "## Intended use\n\nIt sorts | patterns.\n" in card
    assert "- Not for photos.\n- Every image gets one of the classes" in card
    assert f"Classes with fewer than 50 examples, of which the numbers say little: {', '.join(CLASSES)}." in card
    data = table(card, "data")
    assert data["images"] == ["36"]
    assert data["sha256 of their sorted sha256 sums"] == [f"`{plan.data_sha256}`"]
    assert table(card, "start")["licence of the result"] == ["MIT"]
    assert table(card, "stage")["0"][:2] == ["head", "3"]
    assert list(table(card, "loss |  |")) == ["label_smoothing", "class_weights"]
    assert [row[0] for row in table(card, "class |").values()] == ["12"] * 3
    assert len(table(card, "epoch")) == 3
    assert table(card, "version")["torch"] == [plan.versions["torch"]]


def test_the_result_gives_the_validation_metric_as_a_run_with_an_interval(report: TrainingReport) -> None:
    metrics = report.judgement.metrics["classification"]
    assert metrics.images == report.plan.validated
    assert metrics.values["top-1"] == pytest.approx(report.best["metric"])
    low, high = metrics.intervals["top-1"]
    assert table(card_of(report), f"classification, {metrics.images} images")["top-1"] == [
        f"{metrics.values['top-1']:.4f}",
        f"{low:.4f} to {high:.4f}",
    ]
    assert report.to_json()["validation"]["classification"]["intervals"]["top-1"] == [low, high]


def test_the_validation_images_are_labelled_once_by_a_run_that_can_be_read(report: TrainingReport) -> None:
    opened = report.judgement.opened
    assert opened is not None
    assert run_status(opened.location, CommitLog(opened.store, opened.plan.rows))["finished"]
    images = read_planned_images(open_store(report.output), report.plan)
    expected = [row["image_uri"] for row in images.to_pylist() if row["is_validation"]]
    assert cvbatch.read(opened.store.root)["image_uri"].tolist() == expected
    listed = open_source(SourceConfig(uri=f"{report.output}/validation.csv"))
    assert pa.concat_tables(listed.iter_chunks())["image_uri"].to_pylist() == expected


def test_curves_are_drawn(report: TrainingReport) -> None:
    plots = {plot.title: plot.lines for plot in all_plots(report.state)}
    assert [x for x, _ in plots["Validation"]["top-1"]] == [1, 2, 3]
    assert [x for x, _ in plots["Learning rate"]["rate"]] == list(range(1, report.state.history[-1]["steps"] + 1))
    assert plots["Loss"]["classes, mean of an epoch"][0] == (
        report.state.history[0]["steps"],
        report.state.history[0]["loss"]["classes"],
    )
    with Image.open(io.BytesIO(Path(report.output, "curves.png").read_bytes())) as picture:
        assert picture.width > 2 * picture.height > 400
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50


def test_images_and_truth_that_are_gone_lose_no_result(tmp_path: Path) -> None:
    images = patterns(tmp_path / "patterns")
    job = train_job(images, tmp_path / "out")
    train(job)
    shutil.rmtree(images)
    report = train(job, judged=True)
    assert report.judgement.metrics == {}
    assert "the truth could not be read again" in card_of(report)
    card = write_card(report.plan, report.state, job, report.judgement, curves=False)
    assert "curves.png" not in card
    assert "It says which of 3 classes an image shows: bars, checks, stripes." in card
