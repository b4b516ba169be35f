"""Rules of the architecture, read from the code: each test names all modules that break a rule."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

import cvbatch
from cvbatch.models.backends import BACKENDS
from cvbatch.models.backends.embedded import LITE0
from cvbatch.tasks import TASKS

ROOT = Path(cvbatch.__file__).parent
TESTS = Path(__file__).parent
MODULES = {
    ".".join(("cvbatch", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}
ENTRIES = ("__init__", "__main__")
"""May import everything."""
LOOSE = 6
"""Modules at the top at most, besides those."""
WITH_RAY = ("cvbatch.engine.", "cvbatch.system.ray_compat", "cvbatch.submit.client")
WITH_TORCH = ("cvbatch.inference.torch.", "cvbatch.training.torch.")
TORCH_INSIDE_FUNCTIONS = ("cvbatch.testing",)
"""Modules that may import torch in a function, on a user's request."""
LIGHT = ("cvbatch", "cvbatch.cli.parser", "cvbatch.results.predictions", "cvbatch.stages.decode")
"""Modules that are imported before there is work to do."""
NOT_MIRRORS = ("integration", "cluster")
"""Folders of tests that belong to no module."""


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def imports(module: str, *, at_once: bool = False) -> list[str]:
    """Names that a module imports; with `at_once` those that are imported together with it."""
    found = []
    for node in tree(module).body if at_once else ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else node.module for name in names]
    return found


def ours(module: str, *, at_once: bool = False) -> list[str]:
    """The modules among them that are ours; `cvbatch` itself stands for what it offers to users, and is no layer."""
    return [name for name in imports(module, at_once=at_once) if name in MODULES and name != "cvbatch"]


def top(module: str) -> str:
    """The package, or the loose module, right below `cvbatch`."""
    name = module.removeprefix("cvbatch")
    return name.split(".")[1] if name else "__init__"


def layers() -> list[str]:
    """The packages from the bottom to the top, as ARCHITECTURE lists them."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    items = re.findall(r"^\d+\. ((?:`\w+`,? ?)+)", text.split("\n## Layers\n")[1].split("\n## ")[0], re.M)
    return [name for item in items for name in re.findall(r"`(\w+)`", item)]


def above(order: Iterable[str], graph: Mapping[str, Iterable[str]]) -> list[str]:
    """What is imported although it does not come before whoever imports it."""
    place = {name: number for number, name in enumerate(order)}
    return [
        f"{module} imports {imported}"
        for module, names in graph.items()
        if top(module) not in ENTRIES
        for imported in names
        if place[top(imported)] > place[top(module)]
    ]


def in_circles(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Modules that import themselves through other modules."""

    def reached(start: str) -> set[str]:
        seen, waiting = set[str](), list(graph[start])
        while waiting:
            if (name := waiting.pop()) not in seen:
                seen.add(name)
                waiting += graph[name]
        return seen

    return sorted(module for module in graph if module in reached(module))


def test_each_package_imports_only_from_those_before_it_in_architecture() -> None:
    assert sorted({top(module) for module in MODULES} - {*ENTRIES}) == sorted(layers()), "list all, and each once"
    assert above([*layers(), *ENTRIES], {module: ours(module) for module in MODULES}) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert in_circles({module: ours(module, at_once=True) for module in MODULES}) == []


def test_the_rules_of_imports_can_be_broken() -> None:
    wrong = {"cvbatch.low.a": ["cvbatch.high.b"], "cvbatch.high.b": ["cvbatch.low.a", "cvbatch.high.c"]}
    wrong |= {"cvbatch.high.c": [], "cvbatch.__main__": ["cvbatch.high.b"]}
    assert above(["low", "high", *ENTRIES], wrong) == ["cvbatch.low.a imports cvbatch.high.b"]
    assert in_circles(wrong) == ["cvbatch.high.b", "cvbatch.low.a"]


def test_ray_and_torch_stay_where_they_belong() -> None:
    libraries = ("torch", "torchvision")
    load_torch = {
        module for module in MODULES if any(name.startswith(libraries) for name in imports(module, at_once=True))
    }
    wrong = []
    for module in MODULES:
        at_once = imports(module, at_once=True)
        for name in imports(module):
            late = name not in at_once
            ray = name.split(".")[0] == "ray" and not module.startswith(WITH_RAY)
            torch = name.split(".")[0] in libraries and not (late and module in TORCH_INSIDE_FUNCTIONS)
            if ray or ((torch or (name in load_torch and not late)) and not module.startswith(WITH_TORCH)):
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_starting_takes_no_heavy_library() -> None:
    code = "import sys, {}; print(*{{'aiohttp', 'ray', 'torch', 'torchvision'}} & set(sys.modules))"
    took = {
        module: subprocess.run([sys.executable, "-c", code.format(module)], stdout=subprocess.PIPE, check=True).stdout
        for module in LIGHT
    }
    assert {module: libraries.split() for module, libraries in took.items() if libraries.split()} == {}


def test_modules_are_small_and_lie_in_packages() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length >= 300} == {}
    loose = [module for module, path in MODULES.items() if path.parent == ROOT and top(module) not in ENTRIES]
    assert len(loose) <= LOOSE, loose


def test_nothing_is_caught_broadly_but_at_one_place() -> None:
    broad = [
        f"{module}, line {node.lineno}"
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node.type))))
    ]
    assert [place.partition(",")[0] for place in broad] == ["cvbatch.errors"], broad


def test_no_code_asks_for_the_name_of_a_task_or_of_a_kind_of_model() -> None:
    """What differs between them stands in their tables, so that a new one is one file and one row."""
    names = {*TASKS, *BACKENDS, LITE0}
    asked = [
        f"{module}, line {node.lineno}"
        for module in MODULES
        for node in ast.walk(tree(module))
        for value in _compared_with(node)
        if isinstance(value, ast.Constant) and value.value in names
    ]
    assert asked == []


def _compared_with(node: ast.AST) -> Iterator[ast.AST | None]:
    """What a piece of code compares with, or looks for in; and names of tasks that it keeps something by."""
    if isinstance(node, ast.Compare):
        for side in (node.left, *node.comparators):
            yield from ast.walk(side) if isinstance(side, ast.Tuple | ast.List | ast.Set) else (side,)
    elif isinstance(node, ast.MatchValue):
        yield node.value
    elif isinstance(node, ast.Dict):
        yield from (key for key in node.keys if isinstance(key, ast.Constant) and key.value in TASKS)


def test_public_names() -> None:
    assert [name for name in cvbatch.__all__ if not getattr(cvbatch, name).__doc__] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cvbatch.nothing


def elsewhere() -> dict[str, list[str]]:
    """From `tests/README.md`: modules without a test file of their own, and the tests that cover them."""
    text = (TESTS / "README.md").read_text().split("\n## Where modules are tested\n")[1].split("\n## ")[0]
    found = dict[str, list[str]]()
    for row in re.findall(r"^\|.*\|$", text, re.M):
        names = re.findall(r"`([\w/]+\.py)`", row)
        tests = [name for name in names if Path(name).name.startswith("test_")]
        found |= {name: tests for name in names if name not in tests}
    return found


def mirror(module: Path) -> Path:
    """Path of a module's test file, relative to `tests/`."""
    return module.with_name(f"test_{module.name}")


def test_each_module_is_tested_by_its_mirror_or_where_the_readme_says() -> None:
    files = [path.relative_to(ROOT) for path in MODULES.values() if path.name != "__init__.py"]
    said = elsewhere()
    without = {str(module) for module in files if not (TESTS / mirror(module)).exists()}
    assert sorted(without - said.keys()) == [], "write tests/…/test_….py, or name its tests in tests/README.md"
    assert sorted(said.keys() - without) == [], "tests/README.md names it, and it has its mirror or is gone"
    assert sorted(module for module, tests in said.items() if not tests) == [], "by which tests?"
    assert sorted({test for tests in said.values() for test in tests if not (TESTS / test).exists()}) == []


def test_each_file_of_tests_belongs_to_a_module_or_stands_in_the_readme() -> None:
    stems = {(path.parent.relative_to(ROOT), path.stem) for path in MODULES.values()}
    named = {TESTS / name for name in re.findall(r"`([\w/]*test_\w+\.py)`", (TESTS / "README.md").read_text())}
    stray = [
        str(path.relative_to(TESTS))
        for path in TESTS.rglob("test_*.py")
        if path.relative_to(TESTS).parts[0] not in NOT_MIRRORS and path not in named
        if not any(
            folder == path.parent.relative_to(TESTS) and f"{path.stem}_".startswith(f"test_{stem}_")
            for folder, stem in stems
        )
    ]
    assert sorted(stray) == [], "name it after its module, or say in tests/README.md what it is for"


def test_the_readme_names_only_tests_that_are_there() -> None:
    named = re.findall(r"`((?:[\w]+/)*test_\w+\.py)`", (TESTS / "README.md").read_text())
    there = [f"/{path.relative_to(TESTS)}" for path in TESTS.rglob("test_*.py")]
    assert sorted({name for name in named if not any(path.endswith(f"/{name}") for path in there)}) == []


def test_each_setting_of_the_environment_stands_in_architecture_and_the_other_way_round() -> None:
    used = [name for path in MODULES.values() for name in re.findall(r'EnvironmentNumber\("(\w+)"', path.read_text())]
    said = re.findall(r"^\| `(CVBATCH_\w+)` \|", (ROOT / "ARCHITECTURE.md").read_text(), re.M)
    assert sorted(used) == sorted(said)
