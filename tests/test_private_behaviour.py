"""Private and text-matched behaviour of libraries stays in the compat modules."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import cvbatch

ROOT = Path(cvbatch.__file__).parent
LIBRARIES = ("aiohttp", "botocore", "obstore", "ray", "torch", "torchvision")
COMPAT = {
    "inference/torch/torch_compat.py",
    "inference/torch/torchvision_compat.py",
    "sources/fetch/aiohttp_compat.py",
    "storage/botocore_compat.py",
    "storage/obstore_compat.py",
    "system/ray_compat.py",
}
DOCUMENTED = {"RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_TMPDIR"}
"""Variables that Ray's own pages describe."""
OF_TUPLES = {"_asdict", "_fields", "_make", "_replace"}
"""Documented, and private by their looks alone: of named tuples."""
PRIVATE_NAME = re.compile(rf"({'|'.join(LIBRARIES)})\.(\w+\.)*_\w+")
VARIABLE = re.compile(r"RAY_\w+")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


class Offences(ast.NodeVisitor):
    """What a module does that belongs into a compat module.

    Args:
        tree: The module.
        own: Private names that the package itself defines.
    """

    def __init__(self, tree: ast.Module, own: set[str]) -> None:
        self.found: list[str] = []
        self._own = own
        self._imported = {
            name: library for name, source in imports(tree) if (library := source.partition(".")[0]) in LIBRARIES
        }
        self._docstrings = set(docstrings(tree))
        self._told = set[ast.AST]()
        self.visit(tree)

    def _add(self, node: ast.expr | ast.stmt, what: str) -> None:
        self.found.append(f"{node.lineno}: {what}")

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check_import(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._check_import(node, f"{node.module}.{alias.name}")

    def _check_import(self, node: ast.stmt, name: str) -> None:
        first, *others = name.split(".")
        if first in LIBRARIES and any(map(is_private, others)):
            self._add(node, f"imports {name}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = ast.unparse(node)
        library = self._library(node)
        if library and isinstance(node.ctx, ast.Store | ast.Del):
            self._add(node, f"replaces {chain} of {library}")
        elif library and node not in self._told and any(map(is_private, chain.split("."))):
            self._add(node, f"uses {chain} of {library}")
            self._told |= set(ast.walk(node))
        elif not library and is_private(node.attr) and node.attr not in self._own | OF_TUPLES and chain != "os._exit":
            self._add(node, f"uses {chain}, which nobody here defines")
        self.generic_visit(node)

    def _library(self, node: ast.expr) -> str:
        """The library that a chain of attributes begins with."""
        while isinstance(node, ast.Attribute):
            node = node.value
        return self._imported.get(node.id, "") if isinstance(node, ast.Name) else ""

    def visit_Call(self, node: ast.Call) -> None:
        function = ast.unparse(node.func)
        if self._library(node.func):
            for keyword in node.keywords:
                if keyword.arg and is_private(keyword.arg):
                    self._add(node, f"passes {keyword.arg} to {function}")
        if function == "setattr" and self._library(node.args[0]):
            self._add(node, f"sets attributes of {ast.unparse(node.args[0])}")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if not isinstance(node.value, str) or node in self._docstrings:
            return
        if PRIVATE_NAME.fullmatch(node.value) or (VARIABLE.fullmatch(node.value) and node.value not in DOCUMENTED):
            self._add(node, f"names {node.value}")

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        has_text = any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides)
        if has_text and any(isinstance(side, ast.Attribute) and side.attr == "__name__" for side in sides):
            self._add(node, f"compares the name of a class: {ast.unparse(node)}")
        matched = any(isinstance(kind, ast.In | ast.NotIn) for kind in node.ops) and any(
            isinstance(side, ast.Call) and ast.unparse(side.func) == "str" for side in node.comparators
        )
        if matched and self._imported:
            self._add(node, f"looks into the text of an error: {ast.unparse(node)}")
        self.generic_visit(node)


def imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names that stand for something of a library, wherever they are imported, and which."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.asname or alias.name.partition(".")[0], alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((alias.asname or alias.name, node.module or "") for alias in node.names)


def docstrings(tree: ast.Module) -> Iterator[ast.AST]:
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))


def defined(tree: ast.Module) -> Iterator[str]:
    """Private names that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def offences(tree: ast.Module, own: set[str]) -> list[str]:
    return Offences(tree, own).found


def test_private_behaviour_is_used_in_the_compat_modules_alone() -> None:
    trees = {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}
    assert trees.keys() >= COMPAT
    own = {name for tree in trees.values() for name in defined(tree)}
    found = [
        f"{name}:{offence}" for name, tree in trees.items() if name not in COMPAT for offence in offences(tree, own)
    ]
    assert found == [], "move it into the compat module of its library, with its reason and a test"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import torch._inductor", "1: imports torch._inductor"),
        ("from ray.data._internal.x import Callback", "1: imports ray.data._internal.x.Callback"),
        ("from torch import _C", "1: imports torch._C"),
        ("import torch\ntorch._C._aoti.f()", "2: uses torch._C._aoti.f of torch"),
        ("from torchvision import models\nmodels.Enum.state = 1", "2: replaces models.Enum.state of torchvision"),
        ("import ray\nray.init(_temp_dir=1)", "2: passes _temp_dir to ray.init"),
        ("import ray\nsetattr(ray.data, 'x', 1)", "2: sets attributes of ray.data"),
        ("def f(actor):\n    return actor._ray_id", "2: uses actor._ray_id, which nobody here defines"),
        ("NAME = 'torch._dynamo'", "1: names torch._dynamo"),
        ("NAME = 'RAY_worker_niceness'", "1: names RAY_worker_niceness"),
        (
            "import ray\nif 'no agent' in str(error): pass",
            "2: looks into the text of an error: 'no agent' in str(error)",
        ),
        ("type(x).__name__ == 'Handler'", "1: compares the name of a class: type(x).__name__ == 'Handler'"),
    ],
)
def test_each_kind_is_noticed(code: str, said: str) -> None:
    assert offences(ast.parse(code), set()) == [said]


@pytest.mark.parametrize(
    "code",
    [
        "import torch\ntorch.zeros(1).__class__",
        "def f(self):\n    self._own = 1\n    return self._own",
        "names._replace(a=1)",
        "NAME = 'RAY_ADDRESS'",
        "'torch._dynamo takes long'",
    ],
)
def test_what_is_public_or_our_own_is_not(code: str) -> None:
    assert offences(ast.parse(code), {"_own"}) == []
