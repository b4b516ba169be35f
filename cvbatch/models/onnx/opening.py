"""Read a graph with the runtime that will run it: inputs, outputs, and what its exporter wrote into it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import ModelError, try_call
from cvbatch.models.graphs.graph import Graph, GraphTensor
from cvbatch.system.extras import import_extra

_TYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
_NEUTRAL: Final = frozenset(
    ("Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Concat", "Slice", "Gather")
)
"""Operations that keep the values of their first input."""
_FINISHED: Final = frozenset(("Softmax", "Sigmoid", "HardSigmoid"))
"""Operations whose results are probabilities."""


def import_onnx_packages() -> tuple[Any, Any]:
    """Import `onnx` and `onnxruntime`.

    Raises:
        UsageError: One of them is not installed.
    """
    return tuple(import_extra(module, "onnx", "a model `onnx:`") for module in ("onnx", "onnxruntime"))  # type: ignore[return-value]


def parse_onnx_file(path: Path, name: str) -> Any:
    """Parse a file as `onnx.ModelProto`, without external data.

    Raises:
        ModelError: It is not an ONNX file.
    """
    onnx, _ = import_onnx_packages()
    proto = try_call(lambda: onnx.load(str(path), load_external_data=False))
    if isinstance(proto, Exception) or not proto.graph.output or not proto.opset_import:
        raise ModelError(
            f"{name} is not an ONNX file: expected what torch.onnx.export, Keras, tf2onnx or another exporter wrote"
        )
    return proto


def open_graph(path: Path, name: str, proto: Any) -> Graph:
    """Load a graph and read its facts.

    Args:
        path: The file, with all of its weights.
        name: Name of the file in messages.
        proto: The file as `parse_onnx_file` returned it.

    Raises:
        ModelError: The installed runtime cannot load it.
    """
    _, runtime = import_onnx_packages()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = try_call(lambda: runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
    if isinstance(session, Exception):
        opset = max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)
        raise ModelError(
            f"{name}: onnxruntime {runtime.__version__} cannot load it (opset {opset}): "
            f"{' '.join(str(session).split())[:300]}: export it with a smaller opset, or install a newer onnxruntime"
        )
    meta = session.get_modelmeta()
    return Graph(
        name=name,
        inputs=_tensors(session.get_inputs()),
        outputs=_tensors(session.get_outputs()),
        metadata=dict(meta.custom_metadata_map),
        producer=meta.producer_name,
        finished=frozenset(output.name for output in proto.graph.output if _ends_finished(proto, output.name)),
        run=lambda feed: session.run(None, dict(feed)),
    )


def _tensors(values: Sequence[Any]) -> tuple[GraphTensor, ...]:
    return tuple(
        GraphTensor(
            value.name,
            tuple(length if isinstance(length, int) and length > 0 else None for length in value.shape),
            _TYPES.get(value.type, value.type),
        )
        for value in values
    )


def _ends_finished(proto: Any, output: str) -> bool:
    producers = {name: node for node in proto.graph.node for name in node.output}
    node = producers.get(output)
    while node is not None and node.op_type in _NEUTRAL and node.input:
        node = producers.get(node.input[0])
    return node is not None and node.op_type in _FINISHED
