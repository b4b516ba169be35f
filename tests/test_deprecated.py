"""Old import paths work, warn at the line that uses them, and lead to what exists."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import cvbatch
from cvbatch import deprecated


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("from cvbatch.views import View", "cvbatch.views is cvbatch.images.preprocess now"),
        ("from cvbatch.models.protocol import Detections, Model", "cvbatch.inference.python.protocol now"),
        ("from cvbatch.predictions import read", "cvbatch.predictions is cvbatch.results.predictions now"),
        ("import cvbatch.writing.log", "cvbatch.writing.log is cvbatch.output.commit_log now"),
        ("from cvbatch.sources import objects", "cvbatch.sources.objects is cvbatch.sources.bucket now"),
        ("from cvbatch.config import Job", "cvbatch.config.Job is cvbatch.config.job.Job now"),
    ],
)
def test_an_old_path_works_and_warns_where_it_is_used(line: str, warning: str, tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(f"{line}\n")
    done = subprocess.run([sys.executable, "-W", "always", str(script)], capture_output=True, text=True, check=True)
    assert f"{script}:1: DeprecationWarning: " in done.stderr
    assert f"{warning}; the old path goes with the next version" in done.stderr


def test_an_old_path_gives_the_same_objects() -> None:
    with pytest.warns(DeprecationWarning, match="preprocess now"):
        from cvbatch.views import View
    assert View is cvbatch.View
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from cvbatch.views import nothing  # noqa: F401


def test_the_command_is_still_imported_from_its_package() -> None:
    from cvbatch.cli import main

    with pytest.raises(SystemExit):
        main(["--version"])


def test_every_old_path_leads_to_a_module() -> None:
    missing = [f"{old} -> {new}" for old, new in deprecated.MOVED.items() if not _exists(new)]
    assert missing == []


def test_a_name_that_never_was_is_no_old_path() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"cvbatch\.nothing"):
        importlib.import_module("cvbatch.nothing")
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from cvbatch.config import nothing  # noqa: F401


def _exists(module: str) -> bool:
    path = Path(cvbatch.__file__).parent.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
