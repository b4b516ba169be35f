"""JPEGs to views on a GPU, for machines whose cores cannot decode as fast as the GPU predicts.

nvJPEG rounds otherwise than libjpeg: photos differ by 0.2 of 255 in the mean once they are resized. Whoever uses this
has a certificate that the answers agree.
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
"""Of one piece, whose images are filled up to the largest of them: 768 MB as floats, and about as much again."""


class GpuDecoder:
    """Decodes plain JPEGs on a GPU; several threads may ask at once.

    Args:
        views: What the networks want to see; their interpolation is in `views.SMOOTH`.
        device: `cuda` or `cuda:N`; `cpu` works, too, and saves nothing.
    """

    def __init__(self, views: Sequence[View], device: str) -> None:
        self._views = tuple(views)
        self._device = device
        self._streams = CudaStreams(device)

    def __call__(
        self, files: Sequence[npt.NDArray[np.uint8]], turns: Sequence[int], sizes: Sequence[Size]
    ) -> list[tuple[Tensor, ...] | None]:
        """Decode, turn, resize and crop.

        Args:
            files: Encoded bytes: uint8, one-dimensional.
            turns: How each is to be turned, as Exif counts.
            sizes: (width, height) of each, in pixels.

        Returns:
            For each image one uint8 tensor (height, width, 3) per view, on the device and ready for any stream; None
            where the device could not decode it.

        Raises:
            DeviceLostError: The device gives no answers any more.
        """
        found: list[tuple[Tensor, ...] | None] = []
        with torch.inference_mode(), self._streams.thread_stream(), map_device_errors():
            for piece in _groups_within_memory(sizes):
                found += self._decode_files(files[piece], turns[piece])
            self._streams.wait_for_stream()
        return found

    def _decode_files(
        self, files: Sequence[npt.NDArray[np.uint8]], turns: Sequence[int]
    ) -> list[tuple[Tensor, ...] | None]:
        """Decode some files; if that fails, their halves, so that only what the device does not like is left."""
        # torchvision decodes on a stream of its own, which knows nothing of what still reads the memory that it gets
        self._streams.wait_for_stream()
        try:
            encoded = [torch.from_numpy(file.copy()) for file in files]  # torch wants what it could write to
            images = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=self._device)
            turned = [apply_orientation(image, turn) for image, turn in zip(images, turns, strict=True)]
            return list(zip(*(resize_to_view(turned, view) for view in self._views), strict=True))
        except RuntimeError as error:
            if is_sticky(error):
                raise
        if len(files) == 1:
            return [None]
        middle = len(files) // 2
        return self._decode_files(files[:middle], turns[:middle]) + self._decode_files(files[middle:], turns[middle:])


def _groups_within_memory(sizes: Sequence[Size]) -> Iterator[slice]:
    """Cut where there would be too many pixels: each image counts as much as the largest sides of its piece."""
    start, largest = 0, (0, 0)
    for at, size in enumerate(sizes):
        larger = (max(largest[0], size[0]), max(largest[1], size[1]))
        count = at - start
        if count and (count == _AT_ONCE or (count + 1) * larger[0] * larger[1] > _PIXELS_AT_ONCE):
            yield slice(start, at)
            start, larger = at, size
        largest = larger
    if sizes:
        yield slice(start, len(sizes))


def apply_orientation(image: Tensor, turn: int) -> Tensor:
    """Turn an image, (3, height, width), as Exif's orientation says: 2 to 4 keep its sides, 5 to 8 swap them."""
    if is_transposed(turn):
        image = image.transpose(1, 2)
    flipped = [axis for axis, turns in ((1, (3, 4, 7, 8)), (2, (2, 3, 6, 7))) if turn in turns]
    return image.flip(flipped) if flipped else image
