"""A task and a kind of model of another package, from the job to what is read back; see `tests/toys`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Cvbatch, make_photo

TOYS = Path(__file__).parents[1] / "toys"
MODELS = [{"model": "toy:mean"}, {"model": "python:toy_models:Own", "as": "own"}]


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were: for this process's children, and so for Ray's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = (str(TOYS), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))


@pytest.fixture
def job(tmp_path: Path, photos: Path) -> Path:
    make_photo(photos / "unlucky.png", size=(66, 66))
    path = tmp_path / "job.yaml"
    path.write_text(
        yaml.safe_dump({"source": {"uri": str(photos)}, "models": MODELS, "output": {"uri": str(tmp_path / "out")}})
    )
    return path


def read(output: Path) -> list[dict[str, Any]]:
    code = "import sys, cvbatch; print(cvbatch.read(sys.argv[1]).to_json(orient='records'))"
    done = subprocess.run([sys.executable, "-c", code, str(output)], capture_output=True, text=True, check=True)
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_a_folder_is_labelled_by_a_toy_task_and_a_toy_backend(job: Path, tmp_path: Path, cvbatch: Cvbatch) -> None:
    out = tmp_path / "out"
    run = cvbatch("run", job, "--json")
    assert run.code == 0, run.err
    rows = read(out)
    assert len(rows) == 13
    good = [row for row in rows if row["status"] == "ok"]
    assert len(good) == 12
    for row in good:
        assert 0 < row["brightness_value"] < 255
        assert row["own_value"] == pytest.approx(row["brightness_value"] / 2, abs=1e-3)
        assert row["brightness_word"] == ("bright" if row["brightness_value"] > 127 else "dark")
    (failed,) = (row for row in rows if row["status"] == "error")
    assert (failed["error_type"], failed["brightness_value"], failed["own_word"]) == ("OutOfLuck", None, None)

    counted = run.json["top_labels"]
    assert sum(counted["brightness"].values()) == 12
    assert counted["own"] == {"dark": 12}
    again = cvbatch("run", job, "--json")
    assert (again.code, again.json["rows_this_start"]) == (0, run.json["rows_this_start"])
    assert cvbatch("verify", out, "--deep").code == 0


@pytest.mark.slow
def test_settings_are_compared_as_the_toy_task_says(job: Path, cvbatch: Cvbatch) -> None:
    estimate = cvbatch("plan", job, "--json")
    assert estimate.code == 0, estimate.err
    compared = [found["agreement"] for found in estimate.json["parity"]["candidates"] if found["agreement"]]
    assert compared
    for agreement in compared:
        assert agreement.keys() == {"brightness", "own"}
        assert agreement["brightness"]["largest_difference"] >= 0
        assert agreement["brightness"]["passed"] == (agreement["brightness"]["largest_difference"] <= 5)


def test_what_the_package_knows_is_known_everywhere(tmp_path: Path, cvbatch: Cvbatch) -> None:
    where = ("--output", tmp_path / "out")
    wrong = cvbatch("run", "--source", tmp_path, "--model", "toy:median", *where)
    assert wrong.code == 2
    assert "unknown model 'toy:median': did you mean toy:mean?" in wrong.err
    listed = cvbatch("models", "brightness", "--json")
    assert (listed.code, listed.json) == (0, [])
    other = cvbatch("run", "--source", tmp_path, "--model", "resnet50", "--set", "models.0.task=brightness", *where)
    assert "resnet50 does classification and embedding, not brightness" in other.err
