"""A trained network as an ONNX graph that takes any number of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from cvbatch.models.spec import ModelSpec
from cvbatch.system.standard_streams import quiet_libraries
from cvbatch.training.torch.networks import build_network

INPUT: Final = "images"
OUTPUT: Final = "scores"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedGraph:
    """A graph, and what must be known to use it."""

    content: bytes
    """Of an ONNX file."""
    mean: Sequence[float]
    """Per channel, on a scale of 0 to 1."""
    std: Sequence[float]


def export_graph(spec: ModelSpec) -> ExportedGraph:
    """Export the network of a spec; its input is float32, (images, 3, height, width), normalised.

    Args:
        spec: A trained model whose network can learn.

    Raises:
        ModelError: If its weights cannot be read.
    """
    network = build_network(spec, len(spec.categories), keep_head=True, seed=0)
    assert spec.view.crop is not None, "networks of classification see a crop"
    example = torch.zeros(2, 3, *spec.view.crop)
    with torch.no_grad(), quiet_libraries():
        program = torch.onnx.export(
            network.module.eval(),
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=[INPUT],
            output_names=[OUTPUT],
            external_data=False,
            verbose=False,
        )
        assert program is not None, "the exporter of torch.export returns a program"
        content: bytes = program.model_proto.SerializeToString()
    return ExportedGraph(content=content, mean=network.mean, std=network.std)
