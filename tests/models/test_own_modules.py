"""Which sources an own model is made of, and which names it cannot have."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cvbatch.errors import ModelError
from cvbatch.models import own_modules


def write(folder: Path, **sources: str) -> None:
    for name, text in sources.items():
        path = folder / f"{name.replace('__', '/')}.py" if "/" not in name else folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def reached(folder: Path, module: str = "mine") -> list[str]:
    return [str(path.relative_to(folder)) for path in own_modules.reached_modules(folder, module)]


def test_what_a_module_imports_from_beside_it_in_any_way(tmp_path: Path) -> None:
    write(tmp_path, mine="import json, one\nfrom two import x\n\ndef late():\n    import three.deep as deep\n")
    write(tmp_path, one="import two", two="x = 1", three__deep="from . import near\nfrom .. import nothing", other="")
    write(tmp_path, **{"three/__init__.py": "", "three/near.py": "import mine", "three/unused.py": ""})
    assert reached(tmp_path) == ["mine.py", "one.py", "three/__init__.py", "three/deep.py", "three/near.py", "two.py"]


def test_a_part_of_a_package(tmp_path: Path) -> None:
    files = {
        "pkg/__init__.py": "from .a import A",
        "pkg/a.py": "from .sub.b import B",
        "pkg/sub/b.py": "from ..c import C",
    }
    write(tmp_path, **files, **{"pkg/c.py": "", "pkg/d.py": ""})
    assert reached(tmp_path, "pkg.a") == ["pkg/__init__.py", "pkg/a.py", "pkg/c.py", "pkg/sub/b.py"]


def test_a_compiled_module_counts(tmp_path: Path) -> None:
    write(tmp_path, mine="import fast")
    (tmp_path / f"fast{own_modules.EXTENSION_SUFFIXES[0]}").write_bytes(b"\x7fELF")
    assert len(reached(tmp_path)) == 2


def test_pythons_own_modules_are_what_their_names_mean(tmp_path: Path) -> None:
    write(tmp_path, mine="import json, random, logging", json="", random="", logging="")
    assert reached(tmp_path) == ["mine.py"]


@pytest.mark.parametrize("name", ["random", "types"])
def test_a_model_with_the_name_of_one_of_pythons(tmp_path: Path, name: str) -> None:
    write(tmp_path, **{name: ""})
    with pytest.raises(
        ModelError, match=rf"python:{name}: .*{name}\.py has the name of Python's own module {name}: ren"
    ):
        own_modules.folder_of_module(name, str(tmp_path))


def test_a_name_that_something_installed_has(tmp_path: Path) -> None:
    write(tmp_path, numpy="", mine="import numpy")
    with pytest.raises(
        ModelError, match=r"python:numpy: .*numpy\.py has the name of an installed module, .*: rename it"
    ):
        own_modules.folder_of_module("numpy", str(tmp_path))
    with pytest.raises(ModelError, match=r"mine\.py imports numpy: .*numpy\.py has the name of an installed module"):
        own_modules.reached_modules(tmp_path, "mine")


def test_a_mere_folder_with_such_a_name_is_nothing(tmp_path: Path) -> None:
    write(tmp_path, mine="import numpy", **{"numpy/stuff.py": ""})
    assert reached(tmp_path) == ["mine.py"]


def test_where_a_module_is_imported_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside, path = tmp_path / "beside", tmp_path / "path"
    write(beside, mine_of_a_test="")
    write(path, **{"theirs_of_a_test/__init__.py": ""})
    monkeypatch.syspath_prepend(path)
    assert own_modules.folder_of_module("mine_of_a_test", str(beside)) == beside
    assert own_modules.folder_of_module("theirs_of_a_test.models", str(beside)) == path
    assert own_modules.folder_of_module("PIL.Image", str(beside)) is None, (
        "an installed package is known by its version"
    )
    assert own_modules.folder_of_module("nowhere_of_a_test", str(beside)) is None
    assert str(beside) not in sys.path


def test_a_source_that_is_no_python(tmp_path: Path) -> None:
    write(tmp_path, mine="import broken", broken="x = 1\ndef (:\n")
    with pytest.raises(ModelError, match=r"broken\.py is not Python: invalid syntax, line 2"):
        own_modules.reached_modules(tmp_path, "mine")


def test_what_is_imported_by_a_literal_name(tmp_path: Path) -> None:
    write(tmp_path, mine="import importlib\ndef f():\n    importlib.import_module('one')\n    __import__('two')")
    write(tmp_path, one="from importlib import import_module\nimport_module('pkg.deep')", two="", other="")
    write(
        tmp_path, **{"pkg/__init__.py": "", "pkg/deep.py": "import importlib\nimportlib.import_module('.near', 'pkg')"}
    )
    write(tmp_path, **{"pkg/near.py": ""})
    assert reached(tmp_path) == ["mine.py", "one.py", "pkg/__init__.py", "pkg/deep.py", "pkg/near.py", "two.py"]
