"""Decode JPEGs to views on a GPU, for machines whose cores decode more slowly than the GPU predicts.

nvJPEG does not round as libjpeg does: resized photos differ by 0.2 of 255 in the mean. Runs use this only with a
certificate that the answers agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from cvbatch.images.exif import is_transposed
from cvbatch.images.preprocess import Size, View
from cvbatch.inference.torch.resize import resize_to_view
from cvbatch.inference.torch.tensors import CudaStreams, map_device_errors
from cvbatch.inference.torch.torch_compat import is_sticky

_AT_ONCE = 64
_PIXELS_AT_ONCE = 64_000_000
"""Pixels of one group with images padded to the largest: 768 MB as floats, and about as much for the results."""


class GpuDecoder:
    """Decoder of plain JPEGs on a GPU; several threads may call it at the same time.

    Args:
        views: Views of the networks; their interpolation is one of `resize.FILTERS`.
        device: `cuda` or `cuda:N`; `cpu` works, too, but is not faster.
    """

    def __init__(self, views: Sequence[View], device: str) -> None:
        self._views = tuple(views)
        self._device = device
        self._streams = CudaStreams(device)

    def __call__(
        self, files: Sequence[npt.NDArray[np.uint8]], orientations: Sequence[int], sizes: Sequence[Size]
    ) -> list[tuple[Tensor, ...] | None]:
        """Decode, orient, resize and crop images.

        Args:
            files: Encoded bytes: uint8, one-dimensional.
            orientations: Exif orientation of each file.
            sizes: (width, height) of each file, in pixels.

        Returns:
            For each image one uint8 tensor (height, width, 3) per view, on the device and ready for any stream; None
            where the device could not decode it.

        Raises:
            DeviceLostError: The device no longer responds.
        """
        results: list[tuple[Tensor, ...] | None] = []
        with torch.inference_mode(), self._streams.thread_stream(), map_device_errors():
            for group in _groups_within_memory(sizes):
                results += self._decode_files(files[group], orientations[group])
            self._streams.wait_for_stream()
        return results

    def _decode_files(
        self, files: Sequence[npt.NDArray[np.uint8]], orientations: Sequence[int]
    ) -> list[tuple[Tensor, ...] | None]:
        """Decode files; if that fails, decode the halves, so that only files that the device cannot decode fail."""
        # torchvision decodes on its own stream, which does not wait for pending reads of the memory that it reuses
        self._streams.wait_for_stream()
        try:
            encoded = [torch.from_numpy(file.copy()) for file in files]  # torch needs writable memory
            images = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=self._device)
            oriented = [
                apply_orientation(image, orientation) for image, orientation in zip(images, orientations, strict=True)
            ]
            return list(zip(*(resize_to_view(oriented, view) for view in self._views), strict=True))
        except RuntimeError as error:
            if is_sticky(error):
                raise
        if len(files) == 1:
            return [None]
        middle = len(files) // 2
        return self._decode_files(files[:middle], orientations[:middle]) + self._decode_files(
            files[middle:], orientations[middle:]
        )


def _groups_within_memory(sizes: Sequence[Size]) -> Iterator[slice]:
    """Cut into groups of at most `_PIXELS_AT_ONCE`; each image counts with the largest sides of its group."""
    start, largest = 0, (0, 0)
    for index, size in enumerate(sizes):
        larger = (max(largest[0], size[0]), max(largest[1], size[1]))
        count = index - start
        if count and (count == _AT_ONCE or (count + 1) * larger[0] * larger[1] > _PIXELS_AT_ONCE):
            yield slice(start, index)
            start, larger = index, size
        largest = larger
    if sizes:
        yield slice(start, len(sizes))


def apply_orientation(image: Tensor, orientation: int) -> Tensor:
    """Apply an Exif orientation to an image, (3, height, width); 5 to 8 swap width and height."""
    if is_transposed(orientation):
        image = image.transpose(1, 2)
    flipped = [axis for axis, orientations in ((1, (3, 4, 7, 8)), (2, (2, 3, 6, 7))) if orientation in orientations]
    return image.flip(flipped) if flipped else image
