"""Load a graph onto its device; the loader of `cvbatch.models.backends.onnx`."""

from __future__ import annotations

from pathlib import Path

from cvbatch.inference.network import Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models import weights
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.models.onnx.files import unpack_graph_file
from cvbatch.models.spec import ModelSpec


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the graph of a spec; see `loading.load_network`."""
    from cvbatch.inference.graphs.network import GraphNetwork
    from cvbatch.inference.onnx.session import OnnxSession
    from cvbatch.inference.torch.fast_import import import_torchvision

    import_torchvision()
    reading = GraphReading.from_options(spec.options)
    path = unpack_graph_file(Path(weights.fetch_for_spec(spec)))
    session = OnnxSession(str(path), spec.name, reading, device)
    return GraphNetwork(session, reading, device)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe_model`; specs are complete, because the driver opens the file."""
    return spec
