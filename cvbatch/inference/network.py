"""What the predictor asks of a loaded network."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cvbatch.images.preprocess import Size
from cvbatch.models.spec import ModelSpec

Image = npt.NDArray[np.uint8]
"""RGB, (height, width, 3)."""
Answers = Mapping[str, Sequence[Any]]
"""One answer per image, by alias; what an answer is says the class of its task."""


class ForwardPass(Protocol):
    """From images to answers, in one forward pass."""

    def batch_key(self, image: Image) -> Hashable:
        """Images with equal keys may share a forward pass without changing each other's answers."""
        ...

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """Answer for images of one view and one batch key.

        Args:
            images: uint8 RGB, as the view of the specs says.
            sizes: (width, height) of each oriented original.
            specs: What is wanted of this network.
        """
        ...


class Network(ForwardPass, Protocol):
    """A network on its device, ready to answer."""

    parallel: bool
    """Whether several threads may run it at once."""

    def use_threads(self, count: int) -> None:
        """Let each `run_batch` from here on use so many cores of a CPU."""
        ...
