"""Find the file of a program, and the YAML file beside it, on a disk or in a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cvbatch.config.job import ModelConfig
from cvbatch.config.model_files import PROGRAM
from cvbatch.models import weights
from cvbatch.models.graphs.graph import Graph
from cvbatch.models.graphs.keys import GraphKeys
from cvbatch.models.graphs.places import FileKind, find_place, read_keys_beside
from cvbatch.models.program.archive import ProgramArchive
from cvbatch.models.program.facts import read_graph

_KIND: Final = FileKind(prefix=PROGRAM, noun="a program of torch.export", most_bytes=64 << 30)


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """A program."""

    path: Path
    """On this machine."""
    spec_path: str
    """What the spec stores: the path, or the URI of an object."""
    sha256: str
    graph: Graph
    keys: GraphKeys
    """Of the YAML file beside it."""


def read_program_file(config: ModelConfig) -> ProgramFile:
    """Find the file of a model and read what it says.

    Args:
        config: Its `checkpoint` is a path or the URI of an object.

    Raises:
        ModelError: There is no such file, it is something else, or it cannot be run.
    """
    place = find_place(config, _KIND)
    path = place.model_path()
    with ProgramArchive(path, place.name) as archive:
        archive.check_tensors()
        graph = read_graph(archive)
    sha256 = weights.check_file_hash(path, config.sha256 or "", name=place.name)
    return ProgramFile(path, place.spec_path, sha256, graph, read_keys_beside(place))
