"""The layers of the design, read from the imports themselves."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import cvbatch

ROOT = Path(cvbatch.__file__).parent
PACKAGES = (
    "deprecated",
    "errors",
    "schema",
    "system",
    "storage",
    "images",
    "config",
    "models",
    "tasks",
    "output",
    "sources",
    "planning",
    "inference",
    "stages",
    "tuning",
    "engine",
    "runs",
    "pipeline",
    "results",
    "submit",
    "demo",
    "testing",
    "cli",
    "__init__",
    "__main__",
)
"""From the bottom to the top: each imports only from those before it."""
LAYER = {name: number for number, name in enumerate(PACKAGES)}
INSIDE_FUNCTIONS = {"testing"}
"""May import torch in a function, where a person asks for it."""
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Modules that a file imports, and whether that happens when it is imported itself."""
    tree = ast.parse(path.read_text())
    at_once = {node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node in at_once
            yield from ((f"{node.module}.{alias.name}", node in at_once) for alias in node.names)


def top(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_layer_and_imports_only_from_those_before(module: str) -> None:
    assert top(module) in LAYER, "give it a place in LAYERS"
    for imported, _ in imports(MODULES[module]):
        package, _, name = imported.partition(".")
        if package == "cvbatch" and top(name) in LAYER and module != "__init__":
            below = LAYER[top(name)] < LAYER[top(module)] or top(name) == top(module)
            assert below, f"{module} imports {imported}"


WITH_RAY = ("engine.", "system.ray_compat", "submit.client", "stages.predict")
WITH_TORCH = "inference.torch."


def test_ray_and_torch_stay_where_they_belong() -> None:
    torch = {
        module
        for module, path in MODULES.items()
        if any(top(imported) in ("torch", "torchvision") and at_once for imported, at_once in imports(path))
    }
    wrong = []
    for module, path in MODULES.items():
        for imported, at_once in imports(path):
            ray = top(imported) == "ray" and not module.startswith(WITH_RAY)
            names_torch = top(imported) in ("torch", "torchvision") and not module.startswith(WITH_TORCH)
            loads_torch = imported.removeprefix("cvbatch.") in torch and not module.startswith(WITH_TORCH) and at_once
            if ray or (names_torch and (at_once or module not in INSIDE_FUNCTIONS)) or loads_torch:
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


@pytest.mark.parametrize("module", MODULES)
def test_modules_stay_small(module: str) -> None:
    assert len(MODULES[module].read_text().splitlines()) < 300


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_caught_broadly_but_at_one_place(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    broad = [
        handler.lineno
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        and (handler.type is None or ast.unparse(handler.type) in ("Exception", "BaseException"))
    ]
    assert len(broad) == (1 if module == "errors" else 0), broad


@pytest.mark.parametrize(
    "module", ["cvbatch", "cvbatch.cli.parser", "cvbatch.results.predictions", "cvbatch.stages.decode"]
)
def test_starting_takes_neither_ray_nor_torch(module: str) -> None:
    code = f"import sys, {module}; print(*{{'ray', 'torch', 'torchvision'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_public_names() -> None:
    assert len(cvbatch.__all__) <= 15
    for name in cvbatch.__all__:
        assert getattr(cvbatch, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = cvbatch.nothing


def test_every_package_of_the_tests_mirrors_one_of_ours() -> None:
    tests = Path(__file__).parent
    ours = {path.parent.relative_to(ROOT) for path in MODULES.values()}
    mirrored = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    assert mirrored <= ours | {Path("integration"), Path("jobs"), Path("cluster")}
