"""The page of a training: what is on it, and how it looks to a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import cvbatch
from cvbatch.cli.parser import main
from cvbatch.output.store import open_store
from cvbatch.training.log import TrainingLog
from cvbatch.training.plan import make_training_plan
from cvbatch.training.status import open_training
from tests.rigs.browser import open_browser
from tests.training.samples import patterns, train, train_job


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that is so short that some of its answers are wrong."""
    folder = tmp_path_factory.mktemp("training")
    stages = [{"layers": "head", "epochs": 2, "rate": 0.0005}]
    train(train_job(patterns(folder / "patterns"), folder / "out", stages=stages, split={"validation": 0.5}))
    return folder / "out"


def payload(page: Path) -> dict[str, Any]:
    text = page.read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found is not None
    return json.loads(found[1])


def test_the_worst_answers_come_first_with_their_truth(output: Path) -> None:
    answer = cvbatch.write_training_report(str(output))
    assert answer.sections[:2] == ["Learning", "Worst answers"]
    assert "Evaluation: classification" in answer.sections
    data = payload(output / "_report" / "index.html")
    assert [plot["title"] for plot in data["answers"][0]["plots"]] == ["Loss", "Validation", "Learning rate"]
    (group,) = data["answers"][1]["groups"]
    images = {image["row_id"]: image for image in data["gallery"]}
    ranks = []
    for row_id in group["row_ids"]:
        image = images[row_id]
        named = {data["names"][alias]: (data["names"][label], score) for alias, label, score, *_ in image["elements"]}
        truth = named["truth"][0]
        assert f"/{truth}/" in image["uri"]
        label, score = next(
            (data["names"][label], score)
            for alias, label, score, *_ in image["elements"]
            if data["names"][alias] != "truth"
        )
        is_wrong = label != truth
        assert image["note"] == (f"{label} {score:.2f}, truth {truth}" if is_wrong else None)
        ranks.append((not is_wrong, -score if is_wrong else score))
    assert ranks == sorted(ranks)
    validated = open_training(str(output))[1].validated
    assert len(ranks) == min(validated, 24)
    assert 0 < sum(is_right for is_right, _ in ranks) < len(ranks)


def test_a_training_that_goes_on_has_curves_and_no_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = train_job(patterns(tmp_path / "patterns"), tmp_path / "out")
    store = open_store(job.output.location)
    make_training_plan(store, job, lambda phrase: None)
    assert main(["report", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sections"] == ["Learning"]
    log = TrainingLog(store)
    row = {
        "epoch": 1, "stage": 0, "steps": 4, "loss": {"a": 0.5, "b": 1.0}, "metric": 0.5, "scores": {"top-1": 0.5},
        "rate": 0.1, "seconds": 1.0, "images_per_second": 24.0, "waiting": 0.0, "points": [[1, 2.0, 0.1]],
    }  # fmt: skip
    best = {"epoch": 1, "metric": 0.5, "scores": {"top-1": 0.5}}
    log.append_record(log.open_attempt(), "checkpoint", position=[1, 0], file="c", best=best, history=[row])
    assert main(["report", str(tmp_path / "out"), "--to", str(tmp_path / "page")]) == 0
    text = (tmp_path / "page" / "index.html").read_text()
    assert "1 of 3 epochs are learned; the best is epoch 1 with top-1 0.5000." in text
    assert "Not complete" in text
    (loss, _, _) = payload(tmp_path / "page" / "index.html")["answers"][0]["plots"]
    assert [name for name, _ in loss["lines"]] == ["each step", "a, mean of an epoch", "b, mean of an epoch"]


@pytest.mark.parametrize("option", ["--truth", "--reference"])
def test_what_belongs_to_runs_is_refused(output: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    assert main(["report", str(output), option, "x"]) == 2
    assert f"{option}: a training is compared with its own truth" in capsys.readouterr().err


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 400)])
def test_the_page_can_be_read_in_a_browser(output: Path, scheme: str, width: int) -> None:
    page_path = Path(cvbatch.write_training_report(str(output)).path)
    with open_browser() as browser, browser.page(page_path.as_uri(), scheme=scheme, width=width) as page:
        assert page.locator("#answer-0 .plot-svg").count() == 3
        assert page.locator("#answer-1 .tile").count() > 6
        assert ", truth " in page.locator("#answer-1 .tile-note").first.inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.complaints(page) == []
