"""Job files and scripts in `jobs/` work as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from cvbatch.config.job import PYTHON
from cvbatch.config.job_file import load_job
from cvbatch.config.train_file import load_train_job
from cvbatch.models.resolve import resolve_models
from cvbatch.sources import open_source
from cvbatch.training.start import resolve_start

JOBS = Path(__file__).parents[1] / "jobs"
FILES = sorted(JOBS.rglob("*.yaml"))
NAMES = [path.relative_to(JOBS).as_posix() for path in FILES]
TRAININGS = [path for path in FILES if path.name.startswith("train_")]
RUNS = [path for path in FILES if path not in TRAININGS]


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: path.name)
def test_job_files_of_trainings_are_right(path: Path) -> None:
    job = load_train_job(str(path))
    assert resolve_start(job, lambda phase: None).task == job.task
    assert job.source.uris[0].startswith(str(JOBS.parent)), "paths are relative to the job file"


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.relative_to(JOBS).as_posix())
def test_job_files_are_right(path: Path) -> None:
    job = load_job(str(path))
    known = [model for model in job.models if not model.checkpoint]
    specs = resolve_models(known, fetch=False)
    assert [spec.name for spec in specs] == [model.model.removeprefix(PYTHON).partition(":IM")[0] for model in known]
    assert all(spec.categories for spec in specs if spec.kind != "python" and spec.task != "embedding")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_job_files_say_what_they_do_and_how_to_run_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    comment = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert text.startswith(comment)
    command = "train" if path in TRAININGS else "run"
    assert f"{command} jobs/{path.relative_to(JOBS).as_posix()}" in comment
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize("name", NAMES)
def test_readme_names_every_job(name: str) -> None:
    assert f"]({name})" in (JOBS / "README.md").read_text(encoding="utf-8")


def test_links_of_the_readme_exist() -> None:
    links = re.findall(r"\]\(([^):#]+)\)", (JOBS / "README.md").read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (JOBS / link).exists()] == []


@pytest.mark.parametrize("path", sorted(JOBS.rglob("*.py")), ids=lambda path: path.relative_to(JOBS).as_posix())
def test_scripts_compile(path: Path) -> None:
    compile(path.read_text(encoding="utf-8"), str(path), "exec")


def test_the_entry_point_stays_small() -> None:
    assert len((JOBS / "label.py").read_text(encoding="utf-8").splitlines()) < 40


def test_the_manifest_names_photos_of_the_demo() -> None:
    from cvbatch.demo.archive import archive_names

    job = load_job(str(JOBS / "manifest.yaml"))
    manifest = open_source(job.source.model_copy(update={"uri": str(JOBS / Path(job.source.uri).name)}))
    photos = JOBS.parent / "cvbatch-demo" / "photos"
    expected = {str(photos / name) for name in archive_names()}
    named = [uri for chunk in manifest.iter_chunks() for uri in chunk["image_uri"].to_pylist()]
    assert len(named) >= 5
    assert set(named) <= expected
    assert manifest.extra_columns.names == ["occasion", "expected_format"]
