"""Load a program onto its device; the loader of `cvbatch.models.backends.program`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cvbatch.errors import ModelError, try_call
from cvbatch.images.preprocess import compute_output_size
from cvbatch.inference.graphs.network import Arrays, GraphNetwork
from cvbatch.inference.network import Network
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.fast_import import import_torchvision
from cvbatch.inference.torch.malloc import keep_freed_memory
from cvbatch.inference.torch.program_runner import ProgramRunner
from cvbatch.inference.torch.tensors import CudaStreams, map_device_errors, repeat_last_image
from cvbatch.models import weights
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.models.program.archive import ProgramArchive
from cvbatch.models.program.facts import output_names, read_graph
from cvbatch.models.spec import ModelSpec

_TYPICAL_SIZE: Final = (640, 480)
"""(width, height) of an image where a view keeps proportions."""


def load_network(spec: ModelSpec, *, device: str, setting: InferenceSettings) -> Network:
    """Load the program of a spec; see `loading.load_network`."""
    if device == "cpu":
        keep_freed_memory()
    reading = GraphReading.from_options(spec.options)
    return GraphNetwork(ProgramSession(spec, reading, device), reading, device)


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """See `loading.probe_model`: one image, or the fixed number of them, goes through the program.

    Raises:
        ModelError: It fails.
    """
    reading = GraphReading.from_options(spec.options)
    session = ProgramSession(spec, reading, "cpu")
    width, height = compute_output_size(spec.view, _TYPICAL_SIZE)
    lengths = {"n": reading.batch or 1, "c": 3, "h": height, "w": width}
    shape = [lengths[axis] for axis in ("n" + reading.layout if reading.layout == "chw" else reading.layout)]
    batch = np.zeros(shape, session.dtype)
    with FlopCounterMode(display=False) as counter:
        result = try_call(lambda: session.run(batch))
    if isinstance(result, Exception):
        words = " ".join(str(result).split())[:300]
        raise ModelError(f"program:{spec.name}: fails with {width} × {height} pixels: {words}")
    return replace(spec, gflops=counter.get_total_flops() / 2e9 / (reading.batch or 1) or None)


class ProgramSession:
    """A loaded program, as `GraphSession` describes it.

    Args:
        spec: Its model.
        reading: How it is fed.
        device: `cpu`, `cuda` or `cuda:N`.
    """

    def __init__(self, spec: ModelSpec, reading: GraphReading, device: str) -> None:
        import_torchvision()  # its operations are registered
        path = Path(weights.fetch_for_spec(spec))
        with ProgramArchive(path, spec.name) as archive:
            graph = read_graph(archive)
            self._runner = ProgramRunner(archive, device)
        self._reading, self._device = reading, device
        self._streams = CudaStreams(device)
        self._names = output_names(self._runner.outputs)
        self._dtype = graph.inputs[0].dtype

    @property
    def dtype(self) -> str:
        """Of the input, as NumPy calls it."""
        return self._dtype

    def run(self, batch: Any, threads: int = 1) -> Arrays:
        """See `GraphSession.run`; threads share each call."""
        if self._device == "cpu" and torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        images = torch.from_numpy(batch) if isinstance(batch, np.ndarray) else batch
        size = self._reading.batch or len(images)
        with map_device_errors(), torch.inference_mode(), self._streams.thread_stream():
            parts = [self._run_part(images[start : start + size]) for start in range(0, len(images), size)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run_part(self, part: Tensor) -> dict[str, npt.NDArray[Any]]:
        unbatched = self._reading.layout == "chw"
        filled = repeat_last_image(part, self._reading.batch or len(part))
        outputs = self._runner(filled[0] if unbatched else filled)
        return {
            name: _to_array(output[None] if unbatched else output[: len(part)])
            for name, output in zip(self._names, outputs, strict=True)
            if isinstance(output, Tensor) and name in self._reading.outputs.values()
        }


def _to_array(output: Tensor) -> npt.NDArray[Any]:
    on_host = output.detach().cpu()
    return (on_host.float() if on_host.dtype == torch.bfloat16 else on_host).numpy()
