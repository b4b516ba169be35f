"""Real data: scikit-learn's handwritten digits as image files, learned with `jobs/train_digits.yaml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.config.train_file import load_train_job
from cvbatch.config.train_job import TrainJob
from jobs.digits import write_digits
from tests.pages import ROOT
from tests.training.samples import train


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "digits"
    assert write_digits(folder) == 1797
    return folder


def digits_job(digits: Path, output: Path, *overrides: str) -> TrainJob:
    places = [f"source.uri={digits}", f"truth.uri={digits}", f"output.uri={output}"]
    return load_train_job(str(ROOT / "jobs" / "train_digits.yaml"), overrides=[*places, *overrides])


def test_the_head_alone_knows_95_of_100_digits_of_the_third_that_it_has_not_seen(digits: Path, tmp_path: Path) -> None:
    """With features that are computed once."""
    report = train(digits_job(digits, tmp_path / "out", "stages=[{layers: head, epochs: 40, rate: 0.003}]"))
    assert 580 < report.plan.validated < 610
    assert report.best["metric"] >= 0.95


@pytest.mark.slow
def test_all_layers_know_98_of_100(digits: Path, tmp_path: Path) -> None:
    report = train(digits_job(digits, tmp_path / "out"))
    heads = [row["metric"] for row in report.state.history if row["stage"] == 0]
    assert max(heads) >= 0.95
    assert report.best["metric"] >= 0.98
