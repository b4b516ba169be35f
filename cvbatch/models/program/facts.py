"""What a program says of its input and outputs, as a graph of any framework does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from cvbatch.errors import ModelError
from cvbatch.models.graphs.graph import Graph, GraphTensor, Shape
from cvbatch.models.program.archive import ProgramArchive
from cvbatch.models.program.operations import check_operations, torch_names

DTYPES: Final[Mapping[int, str]] = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float16",
    7: "float32",
    8: "float64",
    12: "bool",
    13: "bfloat16",
}
"""Types of the schema, as torch and NumPy call them."""
_NEUTRAL: Final = frozenset(
    (
        "view",
        "reshape",
        "squeeze",
        "unsqueeze",
        "flatten",
        "permute",
        "transpose",
        "cat",
        "slice",
        "select",
        "clone",
        "contiguous",
        "alias",
        "to",
        "_to_copy",
        "detach",
    )
)
"""Operations that keep the values of their first argument."""
_FINISHED: Final = frozenset(("softmax", "_softmax", "sigmoid", "hardsigmoid"))
"""Operations whose results are probabilities."""


def read_graph(archive: ProgramArchive) -> Graph:
    """Read the facts of a program, and check that it can be run.

    Raises:
        ModelError: It has an operation that is not known, something else than tensors as outputs, or is damaged.
    """
    try:
        check_operations(archive)
        return _read_graph(archive)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ModelError(
            f"{archive.name}: its graph is damaged ({type(error).__name__}: {error}): get it again"
        ) from None


def user_inputs(module: Mapping[str, Any]) -> list[str]:
    """Names of the inputs that are not weights, in order."""
    given = (spec["user_input"]["arg"] for spec in module["signature"]["input_specs"] if "user_input" in spec)
    return [str(argument["as_tensor"]["name"]) if "as_tensor" in argument else "" for argument in given]


def user_outputs(module: Mapping[str, Any]) -> list[str]:
    """Names of the values that are outputs, in order; empty for one that is no tensor."""
    given = (spec["user_output"]["arg"] for spec in module["signature"]["output_specs"] if "user_output" in spec)
    return [str(argument["as_tensor"]["name"]) if "as_tensor" in argument else "" for argument in given]


def output_names(values: Sequence[str]) -> list[str]:
    """What outputs are called: as the values, or with a number where a value is given twice."""
    return [name if name not in values[:index] else f"{name}_{index}" for index, name in enumerate(values)]


def _read_graph(archive: ProgramArchive) -> Graph:
    module = archive.model["graph_module"]
    tensors = module["graph"]["tensor_values"]
    for spec in module["signature"]["input_specs"]:
        if spec.keys() & {"custom_obj", "token"}:
            raise ModelError(f"{archive.name}: it needs an object besides tensors, which would be a pickle")
    inputs, outputs = user_inputs(module), user_outputs(module)
    if not all(inputs):
        raise ModelError(f"{archive.name}: expected images as its only input, got something that is no tensor, too")
    tensor_outputs = [(shown, name) for shown, name in zip(output_names(outputs), outputs, strict=True) if name]
    return Graph(
        name=archive.name,
        inputs=tuple(_describe(name, name, tensors, hints=False) for name in inputs),
        outputs=tuple(_describe(shown, name, tensors, hints=True) for shown, name in tensor_outputs),
        metadata=archive.metadata(),
        producer="torch.export",
        finished=frozenset(shown for shown, name in tensor_outputs if _ends_finished(module["graph"], name)),
    )


def _describe(shown: str, name: str, tensors: Mapping[str, Any], *, hints: bool) -> GraphTensor:
    """A tensor; with hints, open lengths but the first are those of the images that it was exported with."""
    meta = tensors[name]
    shape: Shape = tuple(_length(size, hint=hints and axis > 0) for axis, size in enumerate(meta["sizes"]))
    return GraphTensor(shown, shape, DTYPES.get(meta["dtype"], f"type {meta['dtype']}"))


def _length(size: Mapping[str, Any], *, hint: bool) -> int | None:
    if "as_int" in size:
        return int(size["as_int"])
    known = size["as_expr"].get("hint") if hint else None
    return int(known["as_int"]) if isinstance(known, Mapping) and "as_int" in known else None


def _ends_finished(graph: Mapping[str, Any], name: str) -> bool:
    producers = {
        output["as_tensor"]["name"]: node
        for node in graph["nodes"]
        for output in node["outputs"]
        if "as_tensor" in output
    }
    while (node := producers.get(name)) is not None:
        names = torch_names(str(node["target"]))
        operation = names[1] if names else ""
        if operation in _FINISHED:
            return True
        argument = node["inputs"][0]["arg"] if node["inputs"] else {}
        first = argument.get("as_tensor") or (argument.get("as_tensors") or [None])[0]
        if operation not in _NEUTRAL or first is None:
            return False
        name = first["name"]
    return False
