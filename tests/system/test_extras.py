"""A package that is not installed is one line with the command that installs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cvbatch.errors import UsageError
from cvbatch.system.extras import import_extra


def test_a_package_that_is_there_or_not() -> None:
    assert import_extra("json", "json", "a test") is sys.modules["json"]
    with pytest.raises(UsageError, match=r"^a test needs no_such_thing: pip install 'cvbatch\[nothing\]'$"):
        import_extra("no_such_thing", "nothing", "a test")


def test_a_package_that_is_broken_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_of_it.py").write_text("import the_other_half\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="the_other_half"):
        import_extra("half_of_it", "half", "a test")
