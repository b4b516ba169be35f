"""Runs of models that do not fit beside each other, as a person sees them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cvbatch as api
from tests.conftest import Cvbatch, make_photo
from tests.integration.trials import Trial

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of Ray's own code
ROWS = 48
NAMES = ("first", "second")


def test_a_kill_in_the_second_pass_loses_no_rows(tmp_path: Path, ray_head: str) -> None:
    trial = Trial(tmp_path, ray_head)
    trial.photos(ROWS)
    trial.job(compute={"num_actors": 1, "unit_rows": 4}, greedy=NAMES, seconds=0.2)
    with trial.started() as start:
        trial.wait_for_commits()
        start.kill()
    files = [file for record in trial.records("commit") for file in record["files"]]
    committed = sum(high - low for file in files for low, high in file["ranges"])
    assert 0 < committed < ROWS
    again = trial.run()
    assert again.code == 0, again.err
    assert again.json["rows_this_start"] == ROWS - committed
    frame = trial.proven(ROWS)
    assert (frame["first_score"] == frame["second_score"]).all()
    assert frame["first_score"].notna().all()


def test_passes_give_the_answers_of_a_single_one(cvbatch_on_head: Cvbatch, tmp_path: Path) -> None:
    for number in range(20):
        make_photo(tmp_path / "photos" / f"{number}.png", seed=number, size=(200, 150))
    options = ["--source", tmp_path / "photos", "--task", "classification", "--task", "detection"]
    options += ["--set", "compute.precision=fp32"]
    together = cvbatch_on_head("run", *options, "--output", tmp_path / "together", "--json")
    passes = ["--set", "compute.model_memory=120MB"]
    apart = cvbatch_on_head("run", *options, *passes, "--output", tmp_path / "apart", "--json")
    assert (together.code, apart.code) == (0, 0), apart.err
    assert passes_of(tmp_path / "apart") == [["classification"], ["detection"]]
    assert passes_of(tmp_path / "together") == []
    frames = [api.read(str(tmp_path / name)).sort_values("row_id") for name in ("together", "apart")]
    assert list(frames[0].columns) == list(frames[1].columns)
    for name in ("image_uri", "status", "classification_label", "detection_labels"):
        assert [str(value) for value in frames[0][name]] == [str(value) for value in frames[1][name]]
    boxes, others = (
        np.concatenate([np.stack(row) for row in frame["detection_boxes"] if len(row)]) for frame in frames
    )
    np.testing.assert_allclose(boxes, others, rtol=1e-4)
    refused = cvbatch_on_head("run", *options, "--set", "compute.model_memory=50MB", "--output", tmp_path / "no")
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "classification needs about 118 MB, and compute.model_memory allows 50 MB" in refused.err


def passes_of(output: Path) -> Any:
    record: Mapping[str, Any] = json.loads((output / "_cvbatch" / "run.json").read_text())
    return record["pools"]["passes"]
