"""ONNX files, which exporters of all frameworks write; ONNX Runtime runs them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Final

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import ONNX as NAME
from cvbatch.models.backends.graph_files import GraphFileBackend, ResolvedFile


class OnnxBackend(GraphFileBackend):
    """Files that `onnx:FILE` names; see `cvbatch.models.onnx`."""

    name = NAME
    framework = "ONNX"
    packages: ClassVar[Mapping[str, str]] = {
        "onnxruntime": "'cvbatch[onnx]'",
        "torch": "torch",
        "torchvision": "torchvision",
    }
    loader = "cvbatch.inference.onnx.loading"

    def resolve_file(self, config: ModelConfig) -> ResolvedFile:
        """See `GraphFileBackend.resolve_file`."""
        from cvbatch.models.graphs.resolving import resolve_graph
        from cvbatch.models.onnx.files import (  # other models need no package of ONNX
            fetch_graph_file,
            unpack_graph_file,
        )
        from cvbatch.models.onnx.opening import open_graph
        from cvbatch.models.onnx.work import estimate_gflops

        file = fetch_graph_file(config)
        opened = open_graph(unpack_graph_file(file.path), file.name, file.proto)
        graph = resolve_graph(opened, file.keys, config, file.path.parent)
        return ResolvedFile(
            name=file.name,
            spec_path=file.spec_path,
            sha256=file.sha256,
            graph=graph,
            gflops=estimate_gflops(file.proto, graph.image_input, graph.image_shape),
        )

    def files_beside(self, checkpoint: Path) -> Iterable[Path]:
        """The YAML file, and the weights as torch's exporter names them."""
        return *super().files_beside(checkpoint), checkpoint.with_name(f"{checkpoint.name}.data")


ONNX: Final = OnnxBackend()
