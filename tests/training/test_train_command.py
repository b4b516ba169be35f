"""`cvbatch train` as a person uses it: with Ray, and two workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cvbatch.cli.parser import main
from tests.training.samples import patterns, train_job

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own code


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return patterns(tmp_path_factory.mktemp("images") / "patterns")


def job_file(images: Path, folder: Path, **parts: object) -> str:
    path = folder / "job.yaml"
    job = train_job(images, folder / "out", **parts)
    path.write_text(yaml.safe_dump(job.model_dump(mode="json", exclude_defaults=True)))
    return str(path)


def test_two_workers_train_what_a_run_can_use(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", job_file(images, tmp_path), "--set", "compute.workers=2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["best"]["metric"] > 0.8
    assert [row["epoch"] for row in report["epochs"]] == [1, 2, 3]
    assert (tmp_path / "out" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["compute.device=cuda"], "needs 1 GPUs, and it has none: set compute.device=cpu"),
        (["task=embedding"], "expected one that can be learned"),
        (["source.uri=nowhere"], "nowhere"),
    ],
)
def test_wrong_requests_end_in_one_line(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    given = [part for option in options for part in ("--set", option)]
    assert main(["train", job_file(images, tmp_path), *given]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
