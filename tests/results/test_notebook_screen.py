"""The bar of a notebook."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from cvbatch.results.notebook_screen import NotebookScreen, is_notebook
from cvbatch.results.progress_screens import RunProgress, Wait


def test_a_plain_process_is_no_notebook() -> None:
    assert not is_notebook()


def test_one_display_is_updated_from_the_first_wait_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    def display(content: dict[str, str], **_: Any) -> Any:
        shown.append(content["text/html"])
        return SimpleNamespace(update=lambda content, raw: shown.append(content["text/html"]))

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    screen = NotebookScreen()
    screen.show_phase("starting <Ray>")
    screen.start_bar(RunProgress(0, 10, 0))
    screen.show_wait(Wait("loading", 0.0, 2.0), None)
    screen.show_wait(Wait("loading", 0.0, 5.0), None)
    screen.show_progress(RunProgress(5, 10, 1), 2.0)
    screen.stop()
    assert shown == [
        "starting &lt;Ray&gt;",
        '<progress max="10" value="0"></progress> 0 of 10 rows, 0 errors',
        '<progress max="10" value="0"></progress> 0 of 10 rows, 0 errors; loading, 5 s',
        '<progress max="10" value="5"></progress> 5 of 10 rows, 1 errors, 2.0 images/s, 2.5 s left',
        '<progress max="10" value="5"></progress> 5 of 10 rows, 1 errors, 2.0 images/s, 2.5 s left',
    ]
