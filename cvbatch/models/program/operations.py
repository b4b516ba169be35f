"""Which operations of a program are run: those of torch's own libraries, which compute and do nothing else."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from cvbatch.errors import ModelError
from cvbatch.models.program.archive import ProgramArchive

_TORCH: Final = re.compile(r"torch\.ops\.(aten|torchvision)\.((?:__(?:and|or|xor)__)|[a-z][a-z0-9_]*)\.([A-Za-z]\w*)|"
                           r"torch\.ops\.aten\.(_[a-z][a-z0-9_]*)\.([A-Za-z]\w*)")  # fmt: skip
_WITH_FILES: Final = ("from_file",)
_PYTHON: Final[Mapping[str, Callable[..., Any]]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in ("add", "sub", "mul", "floordiv", "truediv", "mod", "pow", "neg", "pos", "and_", "or_", "not_")
    },
    **{f"_operator.{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge", "getitem")},
    **{f"math.{name}": getattr(math, name) for name in ("ceil", "floor", "trunc", "sqrt")},
    "torch.sym_int": int,
    "torch.sym_float": float,
    "torch.sym_max": max,
    "torch.sym_min": min,
    "torch.sym_not": operator.not_,
}
"""Arithmetic with lengths."""
GRADIENT_SWITCH: Final = "torch.ops.higher_order.wrap_with_set_grad_enabled"
"""A part of a graph that a module ran without gradients; there are none in any part."""
_CHECKS: Final = re.compile(r"torch\.ops\.aten\.(_assert_|sym_constrain_)\w+\.\w+")


def is_check(target: str) -> bool:
    """Whether an operation only checks something about the graph's input, which is known to fit."""
    return _CHECKS.fullmatch(target) is not None


def python_function(target: str) -> Callable[..., Any] | None:
    """The function of Python that a target names, or None."""
    return _PYTHON.get(target)


def torch_names(target: str) -> tuple[str, str, str] | None:
    """Library, name and overload of an operation of torch; None if it is another one."""
    match = _TORCH.fullmatch(target)
    if match is None:
        return None
    library, name, overload, inner, inner_overload = match.groups()
    found = (library or "aten", name or inner, overload or inner_overload)
    return None if found[1] in _WITH_FILES else found


def iter_nodes(graph: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All nodes of a graph, and of those in it."""
    for node in graph["nodes"]:
        yield node
        for entry in node["inputs"]:
            inner = entry["arg"].get("as_graph")
            if isinstance(inner, Mapping):
                yield from iter_nodes(inner["graph"])


def check_operations(archive: ProgramArchive) -> None:
    """Check that all operations of a program are known.

    Raises:
        ModelError: The message names one that is not.
    """
    for node in iter_nodes(archive.model["graph_module"]["graph"]):
        target = str(node["target"])
        known = is_check(target) or target == GRADIENT_SWITCH or python_function(target) or torch_names(target)
        if not known:
            raise ModelError(
                f"{archive.name}: it uses {target[:80]}, and only operations of torch.ops.aten and "
                "torch.ops.torchvision are run: export it with run_decompositions(), or to onnx:"
            )
