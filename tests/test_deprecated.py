"""Old import paths and names work, warn at the line that uses them, and lead to names that exist."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import cvbatch
from cvbatch import deprecated
from cvbatch.output.log_records import RunState


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("from cvbatch.views import View", "cvbatch.views is cvbatch.images.preprocess now"),
        ("from cvbatch.models.protocol import Detections, Model", "cvbatch.inference.python.protocol now"),
        ("from cvbatch.predictions import read", "cvbatch.predictions is cvbatch.results.predictions now"),
        ("import cvbatch.writing.log", "cvbatch.writing.log is cvbatch.output.commit_log now"),
        ("from cvbatch.sources import objects", "cvbatch.sources.objects is cvbatch.sources.bucket now"),
        ("from cvbatch.config import Job", "cvbatch.config.Job is cvbatch.config.job.Job now"),
        ("from cvbatch.config import TASKS; TASKS[0]", "cvbatch.config.TASKS is cvbatch.tasks.TASKS now"),
    ],
)
def test_an_old_path_works_and_warns_where_it_is_used(line: str, warning: str, tmp_path: Path) -> None:
    assert f"{warning}; the old path goes with the next version" in warnings_of_script(line, tmp_path)


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("from cvbatch.views import apply", "cvbatch.views.apply is cvbatch.images.preprocess.apply_view now"),
        ("from cvbatch.errors import attempt", "cvbatch.errors.attempt is cvbatch.errors.capture_row_error now"),
        ("import cvbatch.pipeline as p; p.Watcher", "cvbatch.pipeline.Watcher is cvbatch.pipeline.RunObserver now"),
    ],
)
def test_an_old_name_works_and_warns_where_it_is_used(line: str, warning: str, tmp_path: Path) -> None:
    assert f"{warning}; the old name goes with the next version" in warnings_of_script(line, tmp_path)


def warnings_of_script(line: str, folder: Path) -> str:
    """Warnings of a script of one line, each of which must name that line."""
    script = folder / "mine.py"
    script.write_text(f"{line}\n")
    done = subprocess.run([sys.executable, "-W", "always", str(script)], capture_output=True, text=True, check=True)
    warned = [text for text in done.stderr.splitlines() if "DeprecationWarning" in text]
    assert all(text.startswith(f"{script}:1: DeprecationWarning: ") for text in warned)
    return "\n".join(warned)


def test_an_old_path_gives_the_same_objects() -> None:
    with pytest.warns(DeprecationWarning, match="preprocess now"):
        from cvbatch.views import View
    assert View is cvbatch.View
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        from cvbatch.views import nothing  # noqa: F401


def test_every_old_name_leads_to_a_name() -> None:
    for old_module, names in deprecated.RENAMED.items():
        new_module = deprecated.MOVED.get(old_module.removeprefix("cvbatch."))
        module = importlib.import_module(f"cvbatch.{new_module}" if new_module else old_module)
        assert [new for new in names.values() if not hasattr(module, new)] == []


@pytest.mark.parametrize("module", ["cvbatch.errors", "cvbatch.pipeline"])
def test_a_name_that_never_was_is_no_old_name(module: str) -> None:
    with pytest.raises(AttributeError, match=f"module '{module}' has no attribute 'nothing'"):
        _ = importlib.import_module(module).nothing


class OldObserver:
    """An observer of version 0.1."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def doing(self, what: str) -> None:
        self.calls.append(what)

    def planned(self, state: object) -> None:
        self.calls.append(state)

    def committed(self, state: object) -> None:
        self.calls.append(state)


def test_an_observer_with_the_old_method_names_is_called() -> None:
    old = OldObserver()
    with pytest.warns(DeprecationWarning, match="are on_phase, on_planned and on_committed now; the old name"):
        observer = deprecated.adapt_observer(old)
    observer.on_phase("listing")
    observer.on_planned(1)
    observer.on_committed(2)
    assert old.calls == ["listing", 1, 2]
    assert deprecated.adapt_observer(observer) is observer


def test_a_run_calls_an_observer_with_the_old_method_names(tmp_path: Path) -> None:
    job = cvbatch.load_job(
        defaults={"source": {"uri": str(tmp_path / "missing")}, "models": [{"model": "efficientnet_lite0"}]},
        overrides=[f"output.uri={tmp_path / 'labels'}"],
    )
    old = OldObserver()
    with pytest.warns(DeprecationWarning, match="on_phase") as warned, pytest.raises(cvbatch.CvbatchError):
        cvbatch.run(job, old)  # type: ignore[arg-type]
    assert old.calls[0] == "getting the models"
    assert warned[0].filename == __file__


def test_a_state_has_its_old_attributes() -> None:
    state = RunState(planned=4)
    with pytest.warns(DeprecationWarning, match=r"RunState\.left is RunState\.remaining_rows now; the old name"):
        assert state.left == state.remaining_rows == 4  # type: ignore[attr-defined]
    with pytest.warns(DeprecationWarning, match=r"RunState\.final is RunState\.is_final now"):
        assert state.final is False  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="'RunState' object has no attribute 'nothing'"):
        _ = state.nothing  # type: ignore[attr-defined]


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
