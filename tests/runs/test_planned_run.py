"""A run that is there: whether it is that of the job, and what is looked at before a finished one returns."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cvbatch.config.job import Job
from cvbatch.errors import ModelError, OutputError
from cvbatch.models.spec import ModelSpec
from cvbatch.output.log_records import RunState
from tests.samples import spec
from tests.test_pipeline import Output

CATEGORIES = [f"class {number}" for number in range(5)]


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return Output(tmp_path)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of own weights; nobody in these tests loads them."""
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    return path


def asked(output: Output, weights: Path, **options: Any) -> Job:
    model = {"model": "resnet18", "checkpoint": str(weights), "categories": CATEGORIES, **options}
    return output.job(models=[model])


def finished(output: Output, job: Job, pythonpath: str | None = None) -> RunState:
    """The first attempt, which looks at the models, and comes to its end."""

    def probe(models: list[ModelSpec], _: object) -> list[ModelSpec]:
        return [replace(spec(), files=model.files, name=model.name) if model.files else model for model in models]

    output.next["probe_models"] = probe
    return output.run(job, pythonpath=pythonpath)


def again(output: Output, job: Job, command: str = "run", **options: Any) -> RunState:
    state = output.run(job, **options) if command == "run" else output.retry("all", **options)
    assert (state.epoch, len(output.engines)) == (1, 1), "nothing was started"
    return state


@pytest.mark.parametrize("command", ["run", "retry"])
def test_a_finished_run_needs_no_weights(output: Output, weights: Path, command: str) -> None:
    job = asked(output, weights)
    before = finished(output, job)
    weights.unlink()
    assert again(output, job, command).files == before.files
    with pytest.raises(ModelError, match=r"there is no file .*weights\.pt"):
        output.run(job, refresh=True)


@pytest.mark.parametrize("command", ["run", "retry"])
def test_weights_with_a_new_change_time_are_compared(output: Output, weights: Path, command: str) -> None:
    job = asked(output, weights)
    finished(output, job)
    copy = weights.with_suffix(".copy")
    copy.write_bytes(weights.read_bytes())
    copy.rename(weights)
    again(output, job, command)
    times = weights.stat()
    weights.write_bytes(b"others!")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(OutputError, match=r"belongs to another run: classification\.weights_sha256"):
        again(output, job, command)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 2}, r"models\.0\.top_k is 5 in the run, 2 in the job"),
        ({"as": "other"}, r"models\.0\.alias"),
    ],
)
def test_another_job_is_refused_without_weights(
    output: Output, weights: Path, change: dict[str, Any], message: str
) -> None:
    finished(output, asked(output, weights))
    weights.unlink()
    with pytest.raises(OutputError, match=f"belongs to another run: {message}"):
        again(output, asked(output, weights, **change))


def test_files_are_read_if_the_model_section_of_the_job_changed(output: Output, weights: Path) -> None:
    finished(output, asked(output, weights))
    moved = weights.rename(weights.with_name("moved.pt"))
    again(output, asked(output, moved))
    with pytest.raises(OutputError, match=r"belongs to another run: classification\.categories\.1"):
        again(output, asked(output, moved, categories=[CATEGORIES[0], "another", *CATEGORIES[2:]]))


@pytest.mark.parametrize("command", ["run", "retry"])
def test_an_edited_own_model_is_refused_and_a_missing_one_is_accepted(
    output: Output, tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "beside"
    folder.mkdir()
    module = folder / "own_model.py"
    module.write_text("class Own: ...\n")
    job = output.job(models=[{"model": "python:own_model:Own"}])
    finished(output, job, str(folder))
    again(output, job, command, pythonpath=str(folder))
    module.write_text("class Own: size = 2\n")
    with pytest.raises(OutputError, match=r"own_model\.py of the model classification has changed, in"):
        again(output, job, command, pythonpath=str(folder))
    module.unlink()
    again(output, job, command, pythonpath=str(folder))


def test_a_finished_run_needs_no_source(output: Output, weights: Path) -> None:
    job = asked(output, weights)
    finished(output, job)
    output.source.rename(output.source.with_name("elsewhere"))
    again(output, job)
