"""Labelling from Python, in a real Jupyter kernel, and what comes back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

import cvbatch
from cvbatch.errors import UsageError
from tests.conftest import make_photo
from tests.pages import ROOT

LABEL = """
import cvbatch
model = {"model": "python:brightness:Brightness", "as": "light"}
run = cvbatch.label("photos", [model], "labels", compute={"unit_rows": 2})
"""

SLOW = """
import time
from pathlib import Path

from brightness import Brightness


class Slow(Brightness):
    def predict(self, images, sizes):
        if not Path(__file__).with_name("mended").exists():
            time.sleep(5)
        return super().predict(images, sizes)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three photos, a file that is none, and a model."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        make_photo(tmp_path / "photos" / f"{number}.jpg", seed=number)
    (tmp_path / "photos" / "list.jpg").write_text("chain oil")
    shutil.copy(ROOT / "jobs" / "brightness.py", tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_cells(folder: Path, *cells: str) -> list[list[dict[str, Any]]]:
    """What each cell shows."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(folder)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    return [[dict(output.get("data", output)) for output in cell.outputs] for cell in notebook.cells]


def test_a_notebook_shows_a_bar_and_gets_the_run(folder: Path, ray_head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head)
    answers = (
        "run.read(where=\"status = 'ok'\").light_label.isin(['dark', 'medium', 'bright']).sum(), run.summary['errors']"
    )
    (bar,), (shown,), (values,), again = run_cells(folder, LABEL, "run", answers, LABEL + "repr(run)")
    assert bar["text/html"].startswith('<progress max="4" value="4"></progress> 4 of 4 rows, 1 errors')
    assert shown["text/plain"] == f"<4 of 4 images, 1 errors: {folder}/labels>"
    assert "light: most often" in shown["text/html"]
    assert values["text/plain"] == "(np.int64(3), {'UnknownFormat': 1})"
    assert "4 of 4 images" in again[-1]["text/plain"], "a finished run returns at once"
    assert len(cvbatch.read(str(folder / "labels"))) == 4


def test_a_wrong_request_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        cvbatch.label([tmp_path / "nothing"], "efficientnet_lite0", {"uri": str(tmp_path / "out")}, quiet=True)
    with pytest.raises(UsageError, match="precision"):
        cvbatch.label("photos", ["efficientnet_lite0"], tmp_path / "out", compute={"precison": "fp32"})


@pytest.mark.slow
def test_an_interrupted_cell_keeps_its_rows_and_resumes(
    folder: Path, ray_head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_head)
    (folder / "slow.py").write_text(SLOW)
    cell = LABEL.replace("brightness:Brightness", "slow:Slow")
    manager, client = start_new_kernel(cwd=str(folder))
    shown: list[dict[str, Any]] = []

    def show(message: dict[str, Any]) -> None:
        content = message["content"]
        shown.append(content)
        if not (folder / "mended").exists() and "1 of 4 rows" in content.get("data", {}).get("text/plain", ""):
            (folder / "mended").touch()
            manager.interrupt_kernel()

    try:
        first = client.execute_interactive(cell, output_hook=show, timeout=300)["content"]
        rows = cvbatch.read(str(folder / "labels"))
        second = client.execute_interactive(cell, output_hook=show, timeout=300)["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert first["ename"] == "KeyboardInterrupt"
    assert first["evalue"].endswith(f"stay in {folder}/labels, and the same call resumes the run")
    assert sum(part.count("\n") for part in first["traceback"]) < 30, "nothing of Ray's"
    assert second["status"] == "ok"
    again = cvbatch.read(str(folder / "labels"))
    assert 1 <= len(rows) < 4 == again["row_id"].nunique() == len(again)
    assert set(rows["row_id"]) <= set(again["row_id"])
