"""What travels to a cluster."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from cvbatch.config.job import Job
from cvbatch.config.job_file import load_job
from cvbatch.errors import ModelError
from cvbatch.submit.entrypoint import missing_requirements
from cvbatch.submit.package import build_working_dir

OWN = {"model": "python:mine.models:build", "task": "classification"}


def job(*models: Any, source: str = "photos", output: str = "s3://box/out", **more: Any) -> Job:
    sections = {"source": {"uri": source}, "output": {"uri": output}, **more}
    return Job.model_validate({"models": models or [{"model": "resnet50"}], **sections})


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def packed(job: Job, tmp_path: Path, modules: Path) -> Path:
    folder = tmp_path / "packed"
    folder.mkdir()
    build_working_dir(job, folder, modules)
    return folder


def test_the_job_means_the_same_in_any_folder(tmp_path: Path, modules: Path) -> None:
    own = {"model": "resnet50", "as": "mine", "checkpoint": "own.pth", "categories": "names.txt"}
    given = job({"model": "resnet18"}, own, compute={"precision": "fp32", "stop_after": "8h"})
    there = load_job(str(packed(given, tmp_path, modules) / "job" / "job.yaml"))
    assert there.source.uri == str(modules / "photos")
    assert there.output.uri == "s3://box/out"
    assert (there.models[1].checkpoint, there.models[1].categories) == (
        str(modules / "own.pth"),
        str(modules / "names.txt"),
    )
    assert there.compute == given.compute
    assert given.local_paths() == [str(modules / "photos")]
    assert given.local_files() == [str(modules / "own.pth"), str(modules / "names.txt")]


def test_two_spellings_of_a_job_are_the_same_there(tmp_path: Path, modules: Path) -> None:
    given = job()
    there = load_job(str(packed(given, tmp_path, modules) / "job" / "job.yaml"))
    assert there.identity() == given.identity()


def test_the_package_runs_from_there_and_knows_its_version(tmp_path: Path, modules: Path) -> None:
    folder = packed(job(), tmp_path, modules)
    code = "import cvbatch.cli.parser; from importlib.metadata import distribution as d; "
    code += "print(cvbatch.__file__, d('cvbatch').locate_file(''))"
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(folder / "cvbatch" / "__init__.py"), str(folder)]


def test_it_is_small_and_holds_no_image(tmp_path: Path, modules: Path) -> None:
    (modules / "photos").mkdir()
    (modules / "photos" / "a.jpg").write_bytes(b"x" * 1_000_000)
    files = [path for path in packed(job(), tmp_path, modules).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 12_000_000, "7.6 MB are the weights of the embedded detector"
    code, page = {".py", ".json", ".yaml", ".txt", ".md", ".typed", ".safetensors", ""}, {".html", ".css", ".js"}
    assert {path.suffix for path in files} <= code | page


def test_the_same_job_is_the_same_package(tmp_path: Path, modules: Path) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    for folder in (first, second):
        folder.mkdir()
        build_working_dir(job(), folder, modules)
    assert contents(first) == contents(second)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_own_modules_come_with_what_they_import_from_beside_them(tmp_path: Path, modules: Path) -> None:
    (modules / "mine").mkdir()
    (modules / "mine" / "__init__.py").write_text("")
    (modules / "mine" / "models.py").write_text("import json\nfrom helpers import half\nfrom . import deep\n")
    (modules / "mine" / "deep.py").write_text("import more.parts\n")
    (modules / "helpers.py").write_text("import mine\nhalf = 0.5\n")
    (modules / "more").mkdir()
    (modules / "more" / "parts.py").write_text("")
    (modules / "unrelated.py").write_text("")
    (modules / "secrets.txt").write_text("")
    folder = packed(job(OWN), tmp_path, modules) / "job"
    for name in ("mine/__init__.py", "mine/models.py", "mine/deep.py", "helpers.py", "more/parts.py"):
        assert (folder / name).read_bytes() == (modules / name).read_bytes()
    assert not (folder / "unrelated.py").exists()
    assert not (folder / "secrets.txt").exists()


def test_images_and_what_is_hidden_stay_here_even_in_an_own_package(tmp_path: Path, modules: Path) -> None:
    for name in ("mine/__init__.py", "mine/names.txt", "mine/.env", "mine/.git/config", "mine/a/b.JPG", "photos/c.png"):
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_text("import photos\nimport photos.deep\n" if name.endswith(".py") else "x")
    (modules / "mine" / "linked").symlink_to(modules / "photos")
    folder = packed(job(OWN), tmp_path, modules) / "job"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {name for name in files if name.startswith(("mine", "photos"))} == {"mine/__init__.py", "mine/names.txt"}


def test_files_that_own_models_open_come_with_them(tmp_path: Path, modules: Path) -> None:
    (modules / "mine.py").write_text("LABELS = 'labels.txt'\nSECRET = '.env'\nOUTSIDE = '../outside.txt'\n")
    for name in ("labels.txt", "other.txt", ".env", "data/weights.bin", "data/.hidden", "icon.png", "../outside.txt"):
        (modules / name).parent.mkdir(exist_ok=True)
        (modules / name).write_text(name)
    options = {"weights": ["./data"], "icon": "icon.png", "elsewhere": str(modules / "other.txt"), "size": "large"}
    folder = packed(job({"model": "python:mine:build", "options": options}), tmp_path, modules) / "job"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == {"job.yaml", "mine.py", "labels.txt", "data/weights.bin", "icon.png"}


def test_own_files_that_are_too_large_to_send(tmp_path: Path, modules: Path) -> None:
    (modules / "mine.py").write_text("")
    with (modules / "w.bin").open("wb") as file:
        file.truncate(201 << 20)  # takes no room on the disk
    with pytest.raises(ModelError, match="have 201 MB, expected at most 200 MB to send: put large files where"):
        packed(job({"model": "python:mine:build", "options": {"weights": "w.bin"}}), tmp_path, modules)


def test_links_in_a_circle(tmp_path: Path, modules: Path) -> None:
    (modules / "mine").mkdir()
    (modules / "mine" / "__init__.py").write_text("")
    (modules / "mine" / "self").symlink_to(".")
    with pytest.raises(ModelError, match="python:mine: cannot be copied: "):
        packed(job(OWN), tmp_path, modules)


@pytest.mark.parametrize("name", ["python:.mine:build", "python::build", "python:../mine:build"])
def test_what_is_no_name_of_a_module_takes_nothing_along(tmp_path: Path, modules: Path, name: str) -> None:
    (modules / "mine.py").write_text("")
    with pytest.raises(ModelError, match="beside the job file"):
        packed(job({**OWN, "model": name}), tmp_path, modules)


def test_own_modules_that_are_not_there(tmp_path: Path, modules: Path) -> None:
    with pytest.raises(ModelError, match=rf"python:mine: expected mine\.py or mine/ in {modules}, beside the job file"):
        packed(job(OWN), tmp_path, modules)


def test_own_modules_that_are_no_python(tmp_path: Path, modules: Path) -> None:
    (modules / "mine.py").write_text("def (:\n")
    with pytest.raises(ModelError, match=r"mine\.py is not Python: invalid syntax"):
        packed(job(OWN), tmp_path, modules)


def start(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "start.py", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


VERSION = platform.python_version()
THIS = f"Python {VERSION} ({sys.executable})"


def test_it_starts_the_run_with_its_arguments(tmp_path: Path, modules: Path) -> None:
    folder = packed(job({"model": "efficientnet_lite0"}, source="nowhere", output="out"), tmp_path, modules)
    found = start(folder, "--strict")
    assert found.returncode == 2
    assert found.stderr.startswith("cvbatch: ")
    assert "nowhere" in found.stderr
    assert start(folder, "--unknown").stderr.startswith("cvbatch: unrecognized arguments: --unknown")


def test_it_says_what_the_cluster_lacks(tmp_path: Path, modules: Path) -> None:
    folder = packed(job(), tmp_path, modules)
    (folder / "needs.txt").write_text("numpy>=1\nnobody-has-this>=2\npillow>=99\nnor-this; python_version < '3'")
    found = start(folder)
    assert found.returncode == 2
    assert found.stderr.startswith(f"cvbatch: the cluster runs the job with {THIS}, which lacks nobody-has-this>=2, ")
    assert f" pillow>=99 (it has {metadata.version('pillow')}) (submitted with {VERSION}): put the " in found.stderr


def test_a_python_without_ray_is_told_so(tmp_path: Path, modules: Path) -> None:
    folder = packed(job(), tmp_path, modules)
    found = subprocess.run(
        [sys.executable, "-S", "start.py"], cwd=folder, env={}, capture_output=True, text=True, check=False
    )
    assert found.returncode == 2
    assert found.stderr.startswith(f"cvbatch: the cluster runs the job with {THIS}, which lacks packaging, and so Ray ")
    assert found.stderr.count("\n") == 1


def test_an_older_python_is_told_so(tmp_path: Path, modules: Path) -> None:
    folder = packed(job(), tmp_path, modules)
    text = (folder / "start.py").read_text()
    (folder / "start.py").write_text(text.replace("OLDEST = (3, 11)", "OLDEST = (4, 0)"))
    said = f"cvbatch: the cluster runs the job with {THIS} (submitted with {VERSION}): expected 3.11 or newer; put "
    assert start(folder).stderr.startswith(said)
    ast.parse(text, feature_version=(3, 8))


def test_another_python_that_will_do_is_named(tmp_path: Path, modules: Path) -> None:
    folder = packed(job({"model": "efficientnet_lite0"}, source="nowhere", output="out"), tmp_path, modules)
    assert "the cluster runs the job with" not in start(folder).stderr
    (folder / "python.txt").write_text("3.99.1")
    assert start(folder).stderr.startswith(f"cvbatch: the cluster runs the job with {THIS} (submitted with 3.99.1)\n")


def test_this_machine_lacks_nothing(tmp_path: Path, modules: Path) -> None:
    needed = (packed(job(), tmp_path, modules) / "needs.txt").read_text().split("\n")
    assert any(line.startswith("torch") for line in needed)
    assert missing_requirements(needed) == []


def test_only_what_was_asked_for_is_in_the_job_file(tmp_path: Path, modules: Path) -> None:
    content = yaml.safe_load((packed(job(), tmp_path, modules) / "job" / "job.yaml").read_text())
    assert content == {
        "source": {"uri": str(modules / "photos")},
        "models": [{"model": "resnet50"}],
        "output": {"uri": "s3://box/out"},
    }
