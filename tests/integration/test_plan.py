"""`cvbatch plan`: what a run would be like, measured, without running it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import Cvbatch

JOBS = Path(__file__).resolve().parents[2] / "jobs"


@pytest.fixture
def asked(photos: Path, tmp_path: Path) -> list[object]:
    shutil.copy(JOBS / "brightness.py", tmp_path)
    return ["plan", "--source", photos, "--model", "python:brightness:Brightness", "--output", tmp_path / "out"]


def test_a_plan_counts_measures_and_calculates(cvbatch_on_head: Cvbatch, asked: list[object], tmp_path: Path) -> None:
    (tmp_path / "photos" / "notes.txt").write_text("no image")
    done = cvbatch_on_head(*asked, "--set", "compute.price_per_node_hour=0.5", "--json")
    assert done.code == 0, done.err
    found = done.json
    assert (found["images"], found["skipped"]) == (12, {".txt": 1})
    assert found["bytes"] == sum(path.stat().st_size for path in (tmp_path / "photos").glob("*.jpg"))
    assert found["rate"] > 0
    assert found["seconds"] == pytest.approx(12 / found["rate"])
    assert found["cost_per_million"] == pytest.approx(0.5 * 1e6 / found["rate"] / 3600)
    assert found["bottleneck"] in ("decode", "predict")
    assert found["parity"]["setting"]["precision"] == "fp32"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_plan_for_a_person(cvbatch_on_head: Cvbatch, asked: list[object]) -> None:
    done = cvbatch_on_head(*asked, "--limit", "5")
    assert done.code == 0, done.err
    for words in ("images", "expected", "held back by", "the reference"):
        assert words in done.out


def test_a_plan_of_nothing(cvbatch_on_head: Cvbatch, asked: list[object], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = cvbatch_on_head(*asked, "--source", empty)
    assert (done.code, done.out) == (2, "")
    assert "holds no images" in done.err
    assert done.err.count("\n") == 1
