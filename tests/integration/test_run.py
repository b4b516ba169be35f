"""Whole runs of the command line on a real Ray head, with torch-free models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
from PIL import ExifTags, Image

import cvbatch as api
from tests.conftest import Cvbatch, make_photo

MODELS = '''
"""Models of the tests: they look at one pixel, and one of them misbehaves."""

import time

import numpy as np

from cvbatch.images.preprocess import View


class Red:
    """The share of red in the first pixel; a red of 255 raises."""

    task = "classification"
    view = View(resize=(8, 8))
    categories = ("dark", "red")

    def __init__(self, seconds=0.0, fails=False):
        self.seconds, self.fails = seconds, fails

    def predict(self, images, sizes):
        time.sleep(self.seconds * len(images))
        if self.fails and any(image[0, 0, 0] == 255 for image in images):
            raise ValueError("too red")
        red = np.array([image[0, 0, 0] / 255 for image in images])
        return np.stack([1 - red, red], axis=1)
'''


@pytest.fixture
def job(tmp_path: Path, photos: Path) -> Path:
    """A job file beside its own model."""
    (tmp_path / "red.py").write_text(MODELS)
    path = tmp_path / "job.yaml"
    path.write_text(
        textwrap.dedent("""
        source: {uri: photos}
        models:
          - {model: "python:red:Red", options: {seconds: 0.0}}
        output: {uri: out}
        """)
    )
    return path


def test_every_image_becomes_one_row(job: Path, photos: Path, tmp_path: Path, cvbatch_on_head: Cvbatch) -> None:
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("not an image")
    whole = make_photo(photos / "cut.jpg", size=(200, 200), quality=95).read_bytes()
    (photos / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo(photos / "pipe.jpg")
    odd = make_photo(photos / "sub" / 'ü "q" #%\n.png')
    (photos / "00.xmp").write_text("sidecar")

    answer = cvbatch_on_head("run", job, "--json")

    assert answer.code == 0, answer.err
    assert answer.json["rows"] == 18
    assert answer.json["ok"] == 13
    assert answer.json["skipped"] == {".xmp": 1}
    named = {Path(failed["image_uri"]).name: failed["error_type"] for failed in answer.json["failed"]}
    assert named == {
        "empty.jpg": "EmptyFile",
        "text.jpg": "UnknownFormat",
        "cut.jpg": "TruncatedImage",
        "gone.jpg": "NotFound",
        "pipe.jpg": "NotARegularFile",
    }
    frame = api.read(str(tmp_path / "out"))
    assert frame["row_id"].tolist() == list(range(18))
    assert str(odd) in set(frame["image_uri"])
    assert frame.loc[frame["status"] == "ok", "classification_label"].isin(["dark", "red"]).all()
    assert frame.loc[frame["status"] == "error", "classification_label"].isna().all()
    _other_engines_agree(tmp_path / "out", frame)

    verdict = cvbatch_on_head("verify", "out", "--deep", "--json")
    assert (verdict.code, verdict.json["proven"], verdict.json["errors"]) == (0, True, 5)
    assert cvbatch_on_head("run", job, "--strict").code == 3
    assert cvbatch_on_head("status", "out", "--json").json["finished"] is True


def _other_engines_agree(output: Path, frame: pd.DataFrame) -> None:
    plain = pd.read_parquet(output).sort_values("row_id", ignore_index=True)
    frame = frame.drop(columns="source_removed")
    pd.testing.assert_frame_equal(plain.astype(frame.dtypes), frame)
    files = f"{output}/data/*.parquet"
    assert duckdb.sql(f"select count(distinct row_id) from '{files}'").fetchall() == [(len(frame),)]
    assert pl.read_parquet(files).sort("row_id")["classification_label"].to_list() == [
        None if pd.isna(label) else label for label in frame["classification_label"]
    ]


def test_a_finished_run_returns_at_once_and_another_job_is_refused(
    job: Path, tmp_path: Path, cvbatch: Cvbatch, cvbatch_on_head: Cvbatch
) -> None:
    assert cvbatch_on_head("run", job, "--limit", 5).code == 0
    files = sorted((tmp_path / "out" / "data").iterdir())

    # without a cluster: a finished run needs none, and neither does a refusal
    again = cvbatch("run", job, "--limit", 5, "--json")
    assert (again.code, again.json["rows"]) == (0, 5)
    assert sorted((tmp_path / "out" / "data").iterdir()) == files
    refused = cvbatch("run", job, "--set", "models.0.top_k=1")
    assert refused.code == 2
    assert "models.0.top_k is 5 in the run, 1 in the job" in refused.err
    assert refused.err.count("\n") == 1

    more = cvbatch_on_head("run", job, "--json")
    assert (more.code, more.json["rows"]) == (0, 12)
    assert api.read(str(tmp_path / "out"))["row_id"].tolist() == list(range(12))
    assert cvbatch("verify", "out").code == 0


def test_the_columns_of_a_manifest_come_along(job: Path, tmp_path: Path, cvbatch_on_head: Cvbatch) -> None:
    exif = Image.Exif()
    exif.update({ExifTags.Base.Make: "Canon", ExifTags.Base.Model: "EOS R5", ExifTags.Base.Orientation: 6})
    make_photo(tmp_path / "photos" / "00.jpg", size=(40, 30), exif=exif)
    lines = ["uri,plate,note", 'photos/00.jpg,007,"one, two"', "photos/00.jpg,08,", "photos/none.jpg,9,x"]
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")

    answer = cvbatch_on_head("run", job, "--source", "list.csv", "--set", "source.exif=true")

    assert answer.code == 0, answer.err
    frame = api.read(str(tmp_path / "out"))
    assert frame.loc[0, ["exif_camera", "width", "height"]].tolist() == ["Canon EOS R5", 30, 40]
    assert frame["plate"].tolist() == ["007", "08", "9"]
    assert frame["note"].tolist() == ["one, two", "", "x"]
    assert frame["status"].tolist() == ["ok", "ok", "error"]


def test_a_model_that_raises_costs_one_row(job: Path, photos: Path, tmp_path: Path, cvbatch_on_head: Cvbatch) -> None:
    Image.new("RGB", (20, 20), (255, 0, 0)).save(photos / "red.png")

    answer = cvbatch_on_head("run", job, "--set", "models.0.options.fails=true", "--json")

    assert answer.code == 0
    frame = api.read(str(tmp_path / "out"), columns=["image_uri", "error_stage", "error_type", "error_message"])
    failed = frame[frame["error_type"].notna()]
    assert failed["image_uri"].tolist() == [str(photos / "red.png")]
    assert failed[["error_stage", "error_type", "error_message"]].values.tolist() == [
        ["predict", "ValueError", "too red"]
    ]


@pytest.mark.parametrize(
    "stop_by",
    [signal.SIGKILL, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (signal.SIGTERM, signal.SIGINT))],
)
def test_an_interrupted_run_goes_on(
    job: Path, tmp_path: Path, cvbatch_on_head: Cvbatch, ray_head: str, stop_by: signal.Signals
) -> None:
    slow = ["models.0.options.seconds=0.5", "compute.unit_rows=1"]
    options = [part for setting in slow for part in ("--set", setting)]
    process = subprocess.Popen(
        [sys.executable, "-m", "cvbatch", "run", str(job), *options],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": ray_head},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _wait_for_rows(tmp_path / "out", process)
    finally:
        process.send_signal(stop_by)
    _, complaint = process.communicate(timeout=60)

    if stop_by != signal.SIGKILL:
        assert process.returncode == 1
        assert "Resume with: cvbatch run" in complaint
        assert "Traceback" not in complaint
    half = cvbatch_on_head("status", "out", "--json").json
    assert 0 < half["rows"] < 12
    assert len(api.read(str(tmp_path / "out"))) == half["rows"]
    assert not (tmp_path / "out" / "_SUCCESS").exists()

    rest = cvbatch_on_head("run", job, *options, "--json")

    assert rest.code == 0, rest.err
    assert rest.json["rows_this_start"] == 12 - half["rows"]
    assert cvbatch_on_head("verify", "out", "--deep").code == 0


def _wait_for_rows(output: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if any('"commit"' in record.read_text() for record in (output / "_cvbatch" / "log").glob("*.json")):
            return
        assert process.poll() is None, "the run ended before it was stopped"
        time.sleep(0.1)
    raise TimeoutError("nothing was committed")


def test_a_second_start_is_told_who_holds_the_run(job: Path, tmp_path: Path, cvbatch: Cvbatch, ray_head: str) -> None:
    # slow enough to be at work still when the second has started
    options = ["--set", "models.0.options.seconds=5", "--set", "compute.unit_rows=1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cvbatch", "run", str(job), *options],
        cwd=tmp_path,
        env={**os.environ, "RAY_ADDRESS": ray_head},
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_rows(tmp_path / "out", process)  # type: ignore[arg-type]  # only polled
        second = cvbatch("run", job, *options)
        assert second.code == 2
        assert f"process {process.pid} on" in second.err
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--source", "none"], "none: no such file or folder"),
        (["--source", "empty"], "holds no images"),
        (["--model", "resnet51"], "did you mean"),
        (["--set", "compute.precison=fp32"], "did you mean 'precision'"),
        (["--set", "compute.device=cuda"], "has no GPU"),
    ],
)
def test_wrong_requests_are_one_line(
    job: Path, tmp_path: Path, cvbatch_on_head: Cvbatch, options: list[str], expected: str
) -> None:
    (tmp_path / "empty").mkdir()
    answer = cvbatch_on_head("run", job, *options)
    assert answer.code == 2
    assert expected in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "out" / "_cvbatch" / "log").exists()


def test_missing_weights_are_told_before_ray_and_torch_are_there(tmp_path: Path, photos: Path) -> None:
    program = (
        "import sys; from cvbatch.cli.parser import main;"
        "code = main(['run', '--source', 'photos', '--model', 'resnet18', '--output', 'out']);"
        "print([code, 'torch' in sys.modules, 'ray' in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "TORCH_HOME": str(tmp_path / "weights")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout.replace("False", "false").replace("True", "true")) == [2, False, False]
    assert "resnet18-f37072fd.pth" in done.stderr
    assert str(tmp_path / "weights" / "hub" / "checkpoints") in done.stderr
