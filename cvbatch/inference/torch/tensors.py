"""Steps that all torch networks share: batches, placement, precision."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cvbatch.errors import DeviceLostError
from cvbatch.images.preprocess import Size
from cvbatch.inference.network import Answers, ForwardPass, Image
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.torch_compat import is_sticky
from cvbatch.models.spec import ModelSpec

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def map_device_errors() -> Iterator[None]:
    """Separate errors of a lost device from errors that an image may cause.

    Raises:
        DeviceLostError: In place of a `RuntimeError` of a lost device.
    """
    try:
        yield
    except RuntimeError as error:
        if is_sticky(error):
            raise DeviceLostError(str(error)) from error
        raise


class CudaStreams:
    """One CUDA stream per thread, so that threads do not wait for each other; does nothing on a CPU.

    Args:
        device: `cpu`, `cuda` or `cuda:N`.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._local = threading.local()

    def thread_stream(self) -> AbstractContextManager[object]:
        """Return a context in which this thread's stream is used."""
        if self._device.type != "cuda":
            return nullcontext()
        if not hasattr(self._local, "stream"):
            self._local.stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]  # torch has no type
        context: AbstractContextManager[object] = torch.cuda.stream(self._local.stream)
        return context

    def wait_for_stream(self) -> None:
        """Wait until the work of this thread's stream is done."""
        if hasattr(self._local, "stream"):
            self._local.stream.synchronize()


class InferenceContext:
    """A torch network that runs without gradients, at its precision.

    Torch's modes are local to a thread, and Ray constructs an actor in another thread than it calls it in; so they are
    set at each call.

    Args:
        network: Network whose module is placed by `place_on_device`.
        device: `cpu`, `cuda` or `cuda:N`.
        precision: `fp32`, `bf16` or `fp16`.
    """

    def __init__(self, network: ForwardPass, *, device: str, precision: str) -> None:
        self._network = network
        self._device_type = torch.device(device).type
        self._dtype = DTYPES[precision]
        self._threads: int | None = None
        self._streams = CudaStreams(device)
        self.parallel = True

    def use_threads(self, count: int) -> None:
        """See `Network.use_threads`."""
        self._threads = count

    def batch_key(self, image: Image) -> Hashable:
        """See `Network.batch_key`."""
        return self._network.batch_key(image)

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
        autocast = torch.autocast(self._device_type, self._dtype, enabled=self._dtype != torch.float32)
        with map_device_errors(), torch.inference_mode(), autocast, self._streams.thread_stream():
            return self._network.run_batch(images, sizes, specs)


class BatchNormalizer:
    """Makes a normalized batch of images of one size, with exactly torchvision's arithmetic.

    Args:
        mean: Mean per channel, on a scale of 0 to 1.
        std: Standard deviation per channel, on a scale of 0 to 1.
        device: Device of the batches.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: str) -> None:
        self._mean = torch.tensor(mean, device=device)[:, None, None]
        self._std = torch.tensor(std, device=device)[:, None, None]
        self._device = device

    def __call__(self, images: Sequence[Image]) -> Tensor:
        """Stack images of one size.

        Returns:
            Float32, (batch, 3, height, width), channels last in memory. On a GPU, the batch is padded to the next
            power of two, because cuDNN plans for each size and thread, which takes seconds for EfficientNet-Lite0.
        """
        pixels = to_device(images, self._device)
        if (missing := _padded_batch_size(len(images), self._device) - len(images)) > 0:
            pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
        pixels = pixels.permute(0, 3, 1, 2)
        batch = pixels.to(torch.float32, memory_format=torch.channels_last).div_(255)
        return batch.sub_(self._mean).div_(self._std)


def _padded_batch_size(count: int, device: str) -> int:
    return count if device == "cpu" else 1 << (count - 1).bit_length()


def to_device(images: Sequence[Image | Tensor], device: str) -> Tensor:
    """Stack images of one size on a device: uint8, (batch, height, width, 3).

    They are copied to a GPU from pinned memory, so that the copy is asynchronous; tensors on the device stay there.
    """
    first = images[0]
    if isinstance(first, Tensor):
        return torch.stack(cast(list[Tensor], list(images)))  # either all images are tensors, or none is
    on_gpu = device != "cpu"
    stacked = torch.empty((len(images), *first.shape), dtype=torch.uint8, pin_memory=on_gpu)
    np.stack([np.asarray(image) for image in images], out=stacked.numpy())
    return stacked.to(device, non_blocking=True)


def repeat_last_image(batch: Tensor, count: int) -> Tensor:
    """Fill a batch up to a number of images."""
    missing = count - len(batch)
    return torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])]) if missing > 0 else batch


def to_numpy(tensor: Tensor) -> npt.NDArray[np.float32]:
    """Convert a tensor to a float32 array on the host."""
    array: npt.NDArray[np.float32] = tensor.float().cpu().numpy()
    return array


def place_on_device(module: nn.Module, device: str, setting: InferenceSettings) -> nn.Module:
    """Put a module into evaluation mode on its device.

    Args:
        module: Module with its weights loaded.
        device: `cpu`, `cuda` or `cuda:N`.
        setting: Gives the layout of convolutions, and the precision. Weights that autocast would cast at each pass are
            cast here once.
    """
    module = module.eval().requires_grad_(False).to(device)
    if setting.channels_last:
        module = module.to(memory_format=torch.channels_last)
    if setting.precision != "fp32":
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.to(DTYPES[setting.precision])
    return module
