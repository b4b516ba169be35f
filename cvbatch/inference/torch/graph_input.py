"""Batches for graphs of other frameworks: normalised as torch networks are, in the graph's layout and type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from cvbatch.inference.network import Image
from cvbatch.inference.torch.tensors import BatchNormalizer, to_device
from cvbatch.models.graphs.reading import GraphReading


class GraphInput:
    """Makes batches of images of one size.

    Args:
        reading: Gives layout, channels and numbers.
        dtype: Of the input, as NumPy calls it; bytes are passed on as they are.
        device: `cpu`, `cuda` or `cuda:N`.
    """

    def __init__(self, reading: GraphReading, dtype: str, device: str) -> None:
        self._reading, self._dtype, self._device = reading, getattr(torch, dtype), device
        step = -1 if reading.channels == "bgr" else 1
        mean, std = (
            [value * reading.scale / 255 for value in values[::step]] for values in (reading.mean, reading.std)
        )
        self._normalize = BatchNormalizer(mean, std, device)

    def __call__(self, images: Sequence[Image]) -> Any:
        """Stack images.

        Returns:
            (images, …) in the graph's layout, contiguous; an array for the processor, else a tensor on the GPU.
        """
        if torch.get_num_threads() != 1:  # other threads work on other batches
            torch.set_num_threads(1)
        with torch.inference_mode():
            if self._dtype == torch.uint8:
                batch = to_device(images, self._device).permute(0, 3, 1, 2)
            else:
                batch = self._normalize(images)[: len(images)]
            if self._reading.channels == "bgr":
                batch = batch.flip(1)
            if self._reading.layout == "nhwc":
                batch = batch.permute(0, 2, 3, 1)
            batch = batch.to(self._dtype).contiguous()
        if self._device == "cpu":
            return batch.numpy()
        torch.cuda.current_stream().synchronize()  # the runtime has a stream of its own
        return batch
