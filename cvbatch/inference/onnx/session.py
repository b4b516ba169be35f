"""A graph in ONNX Runtime: its threads, its device, and batches of the size that it takes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from cvbatch.errors import ModelError, try_call
from cvbatch.inference.graphs.network import Arrays
from cvbatch.models.graphs.preparation import TARGET_SIZES
from cvbatch.models.graphs.reading import GraphReading

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"


class OnnxSession:
    """A loaded graph. Several threads may run it at once, and each run computes in the thread that calls it.

    The runtime's own threads would take cores that decode images or run other batches.

    Args:
        path: The file.
        name: Its name in messages.
        reading: How it is fed.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        ModelError: The file cannot be loaded, or the device is not available to the runtime.
    """

    def __init__(self, path: str, name: str, reading: GraphReading, device: str) -> None:
        import onnxruntime  # where models run, the packages are checked before

        kind, _, number = device.partition(":")
        self._reading, self._device_id = reading, int(number or 0)
        self._device = kind
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        providers: list[Any] = [_CPU]
        on_gpu = kind != "cpu"
        if on_gpu:
            _check_cuda(onnxruntime.get_available_providers(), name)
            providers = [(_CUDA, {"device_id": self._device_id}), _CPU]
        session = try_call(lambda: onnxruntime.InferenceSession(path, options, providers=providers))
        if isinstance(session, Exception):
            raise ModelError(f"onnx:{name}: {' '.join(str(session).split())[:300]}")
        if on_gpu:
            _check_cuda(session.get_providers(), name)
        self._session: Any = session
        self._names = [output.name for output in session.get_outputs() if output.name in reading.outputs.values()]
        inputs = session.get_inputs()
        self._input = next(value for value in inputs if value.name != TARGET_SIZES)
        self._target_sizes = next((value for value in inputs if value.name == TARGET_SIZES), None)
        self._pool = ThreadPoolExecutor(thread_name_prefix="onnx")
        self.dtype = {"tensor(uint8)": "uint8", "tensor(float16)": "float16"}.get(self._input.type, "float32")
        """Of the input, as NumPy calls it."""

    def run(self, batch: Any, threads: int = 1) -> Arrays:
        """See `GraphSession.run`."""
        fixed = self._reading.batch
        share = fixed or max(1, -(-len(batch) // threads))
        parts = [batch[start : start + share] for start in range(0, len(batch), share)]
        run = self._run_array if isinstance(batch, np.ndarray) else self._run_tensor
        results = list(self._pool.map(run, parts)) if threads > 1 and len(parts) > 1 else list(map(run, parts))
        return {name: np.concatenate([result[name] for result in results]) for name in self._names}

    def _run_array(self, part: npt.NDArray[Any]) -> Arrays:
        missing = (self._reading.batch or 0) - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing > 0 else part
        feed = {self._input.name: filled[0] if self._reading.layout == "chw" else filled}
        outputs = self._session.run(self._names, {**feed, **self._sizes_of(filled.shape)})
        return self._named(outputs, len(part))

    def _run_tensor(self, part: Any) -> Arrays:
        """Run a tensor where it lies; only the outputs are copied to the host."""
        from cvbatch.inference.torch.tensors import repeat_last_image

        filled = repeat_last_image(part, self._reading.batch or len(part))
        tensor = (filled[0] if self._reading.layout == "chw" else filled).contiguous()
        binding = self._session.io_binding()
        binding.bind_input(
            self._input.name,
            self._device,
            self._device_id,
            np.dtype(self.dtype),
            tuple(tensor.shape),
            tensor.data_ptr(),
        )
        for name, sizes in self._sizes_of(tuple(filled.shape)).items():
            binding.bind_cpu_input(name, sizes)
        for name in self._names:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        return self._named(binding.copy_outputs_to_cpu(), len(part))

    def _named(self, outputs: Any, count: int) -> Arrays:
        unbatched = self._reading.layout == "chw"
        return {
            name: output[None] if unbatched else output[:count]
            for name, output in zip(self._names, outputs, strict=True)
        }

    def _sizes_of(self, shape: tuple[int, ...]) -> dict[str, npt.NDArray[Any]]:
        if self._target_sizes is None:
            return {}
        layout = self._reading.layout
        size = [shape[layout.index("w")], shape[layout.index("h")]]
        kind = np.int64 if "int64" in self._target_sizes.type else np.float32
        return {TARGET_SIZES: np.tile(np.array(size, kind), (shape[0], 1))}


def _check_cuda(providers: list[str], name: str) -> None:
    """Refuse to fall back to the processor in silence, as the runtime does.

    Raises:
        ModelError: CUDA is not among the providers.
    """
    if _CUDA not in providers:
        raise ModelError(
            f"onnx:{name}: this run uses the GPU, and the installed onnxruntime has no CUDA: "
            "pip install onnxruntime-gpu in place of onnxruntime, or run with compute.device: cpu"
        )
