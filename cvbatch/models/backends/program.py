"""Programs of torch.export; torch runs their operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import PROGRAM as NAME
from cvbatch.models.backends.graph_files import GraphFileBackend, ResolvedFile
from cvbatch.models.spec import ModelSpec


class ProgramBackend(GraphFileBackend):
    """Files that `program:FILE` names; see `cvbatch.models.program`."""

    name = NAME
    framework = "torch.export"
    packages: ClassVar[Mapping[str, str]] = {"torch": "torch", "torchvision": "torchvision"}
    loader = "cvbatch.inference.torch.program_loading"
    memory_follows_work = True

    def resolve_file(self, config: ModelConfig) -> ResolvedFile:
        """See `GraphFileBackend.resolve_file`; nothing in the file is run, and torch is not needed."""
        from cvbatch.models.graphs.resolving import resolve_graph
        from cvbatch.models.program.files import read_program_file

        file = read_program_file(config)
        graph = resolve_graph(file.graph, file.keys, config, file.path.parent)
        return ResolvedFile(
            name=file.graph.name, spec_path=file.spec_path, sha256=file.sha256, graph=graph, gflops=None
        )

    def needs_probe(self, spec: ModelSpec) -> bool:
        """Always true: only running it shows whether it runs with images of this size, and its work."""
        return True

    def known_before_probe(self, spec: ModelSpec, data: Mapping[str, Any]) -> dict[str, Any]:
        """All but the work."""
        return {key: value for key, value in data.items() if key != "gflops"}


PROGRAM: Final = ProgramBackend()
