"""Estimate the work of a forward pass, by which runs choose the size of their units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cvbatch.errors import try_call
from cvbatch.models.onnx.opening import import_onnx_packages

_LARGE_TENSOR: Final = 1024
"""Numbers from which a tensor is a weight, whose values no shape depends on."""


def estimate_gflops(proto: Any, input_name: str, shape: Sequence[int]) -> float | None:
    """Count multiplications of convolutions and matrix products, as torchvision's weights count their work.

    Args:
        proto: `onnx.ModelProto`; the values of its large tensors are dropped.
        input_name: Name of the input of images.
        shape: Shape of that input for one image.

    Returns:
        In 10⁹; None if shapes cannot be found.
    """
    onnx, _ = import_onnx_packages()
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) > _LARGE_TENSOR:
            tensor.ClearField("raw_data")
    for value in proto.graph.input:
        if value.name == input_name:
            for dimension, length in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                dimension.dim_value = length
    inferred = try_call(lambda: onnx.shape_inference.infer_shapes(proto, data_prop=True))
    if isinstance(inferred, Exception):
        return None
    values = [*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input]
    shapes = {value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in inferred.graph.initializer}
    products = sum(_count_products(node, shapes) for node in inferred.graph.node)
    return products / 1e9 if products else None


def _count_products(node: Any, shapes: Mapping[str, Sequence[int]]) -> int:
    outputs = math.prod(shapes.get(node.output[0], ())) if node.output else 0
    if node.op_type == "Conv":
        return outputs * math.prod(shapes.get(node.input[1], (0,))[1:])
    if node.op_type in ("MatMul", "Gemm"):
        left = shapes.get(node.input[0], (0,))
        transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return outputs * (left[0] if transposed else left[-1]) if left else 0
    return 0
