"""Interface between the predictor and a loaded network."""

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
"""One answer per image, by alias; the class of each task documents its type of answer."""


class ForwardPass(Protocol):
    """Answers for images, from one forward pass."""

    def batch_key(self, image: Image) -> Hashable:
        """Images with equal keys may share a forward pass without changing each other's answers."""
        ...

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """Return the answers for images with one view and one batch key.

        Args:
            images: uint8 RGB, in the view of the specs.
            sizes: (width, height) of each oriented original.
            specs: The models to answer; all use this network.
        """
        ...


class Network(ForwardPass, Protocol):
    """A loaded network on its device."""

    parallel: bool
    """Whether several threads may run it at the same time."""

    def use_threads(self, count: int) -> None:
        """Set the number of CPU cores that each later `run_batch` uses."""
        ...
