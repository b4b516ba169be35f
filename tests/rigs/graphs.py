"""Tiny graphs whose outputs are known numbers, whatever the images are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Length = int | str
"""A name stands for a length that is open."""
OPSET = 18
_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


def write_constant_graph(
    path: Path,
    outputs: Mapping[str, npt.NDArray[Any]],
    *,
    shape: Sequence[Length] = ("batch", 3, 64, 64),
    dtype: str = "float32",
    metadata: Mapping[str, str] | None = None,
    last: str = "Identity",
    opset: int = OPSET,
) -> Path:
    """Write a graph with one input, `images`, that gives the same numbers for each image.

    Args:
        path: The file.
        outputs: By name, for one image, (1, …).
        shape: Of the input; all of its lengths but the first count for nothing.
        dtype: Of the input.
        metadata: What an exporter would write.
        last: Operation that ends each output of floats, such as `Softmax`.
        opset: Of the operations.
    """
    nodes, constants, infos = [], [numpy_helper.from_array(np.array([0.0], np.float32), "zero")], []
    nodes.append(helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT))
    axes = numpy_helper.from_array(np.arange(1, len(shape)), "axes")
    nodes.append(helper.make_node("ReduceMean", ["floats", "axes"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    constants.append(axes)
    for name, array in outputs.items():
        constants.append(numpy_helper.from_array(array.astype(np.float32), f"{name}_constant"))
        constants.append(numpy_helper.from_array(np.array([-1] + [1] * (array.ndim - 1)), f"{name}_shape"))
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        nodes.append(helper.make_node("Reshape", ["nothing", f"{name}_shape"], [f"{name}_nothing"]))
        nodes.append(helper.make_node("Add", [f"{name}_nothing", f"{name}_constant"], [f"{name}_sum"]))
        if kind == TensorProto.FLOAT:
            nodes.append(helper.make_node(last, [f"{name}_sum"], [name]))
        else:
            nodes.append(helper.make_node("Cast", [f"{name}_sum"], [name], to=kind))
        infos.append(helper.make_tensor_value_info(name, kind, [shape[0], *array.shape[1:]]))
    image = helper.make_tensor_value_info("images", _TYPES[dtype], list(shape))
    graph = helper.make_graph(nodes, "constant", [image], infos, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    helper.set_model_props(model, dict(metadata or {}))
    onnx.save(model, str(path))
    return path


def write_operations(
    path: Path, operations: Sequence[tuple[str, Mapping[str, Any]]], *, shape: Sequence[Length], dtype: str, rank: int
) -> Path:
    """Write a graph of operations one after another, each a name and its attributes.

    Args:
        path: The file.
        operations: The last one is named `ArgMax` if whole numbers come out.
        shape: Of the input.
        dtype: Of the input.
        rank: Of the output.
    """
    names = ["images", *(f"step{number}" for number in range(1, len(operations))), "found"]
    nodes = [
        helper.make_node(operation, [names[number]], [names[number + 1]], **attributes)
        for number, (operation, attributes) in enumerate(operations)
    ]
    kind = TensorProto.INT64 if operations[-1][0] == "ArgMax" else TensorProto.FLOAT
    image = helper.make_tensor_value_info("images", _TYPES[dtype], list(shape))
    output = helper.make_tensor_value_info("found", kind, [shape[0], *[None] * (rank - 1)])
    graph = helper.make_graph(nodes, "operations", [image], [output])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    return path
