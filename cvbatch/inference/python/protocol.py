"""The protocol of `python:` models: the interface of the object that a factory returns.

A job names a factory as `model: python:package.module:factory`; `options:` are its keyword arguments. The factory is
called once before the run, to read the model's attributes, and once in each process that predicts. The job file's
folder is importable; it is last in `sys.path`, so give your module a unique name. Paths in `options:` may be relative
to the job file; the factory receives absolute paths. A run is not resumed if the source or these files have changed.
`jobs/brightness.py` is a complete example, and `cvbatch.testing.check_model` checks your model. Nothing here needs
torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from cvbatch.config.job import Task
from cvbatch.images.preprocess import View

Image = npt.NDArray[np.uint8]
"""RGB, (height, width, 3); read-only."""
Size = tuple[int, int]
"""(width, height) of the oriented original, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """Detections in one image; arrays are aligned, in any order."""

    boxes: npt.NDArray[np.floating[Any]]
    """(n, 4): x_min, y_min, x_max, y_max in pixels of the view."""
    label_ids: npt.NDArray[np.integer[Any]]
    """(n,), positions in `categories`."""
    scores: npt.NDArray[np.floating[Any]]
    """(n,)"""
    masks: npt.NDArray[np.bool_] | None = None
    """(n, height, width) of the view; needs `masks = True` and a view without crop."""
    keypoints: npt.NDArray[np.floating[Any]] | None = None
    """(n, keypoints, 3): x, y in pixels of the view, score; needs `keypoints = True`."""


@runtime_checkable
class Model(Protocol):
    """The object that the factory returns.

    Embedding models also have `dimension`, the length of their vectors. Further attributes are optional: `masks` and
    `keypoints` (whether detections have them; default false), `logits` (whether classification returns logits, to which
    softmax is applied; default false), `label_map` (name and version of the categories) and `licence`.

    An invalid answer is an error of its image, `InvalidOutput`: numbers that are not finite, scores outside of 0 to 1,
    boxes without an area or far outside the image, label ids without a category, masks that are not boolean.
    """

    task: Task
    """Task of the model."""
    view: View
    """How images are prepared; without a crop or a frame of one size, the images of one call differ in size."""
    categories: Sequence[str | None] | Mapping[int, str]
    """Name of each label id; None, or missing in a mapping, for ids that are never emitted. Empty for embedding."""

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        """Return an answer for each image; an exception becomes the error of the image that causes it.

        Args:
            images: uint8 RGB, prepared as in `view`.
            sizes: (width, height) of each oriented original.

        Returns:
            Depends on the task. Classification: float scores from 0 to 1, (images, categories). Embedding: float
            vectors, (images, dimension). Detection: one `Detections` per image. Segmentation: one integer array
            (height, width) of label ids per image; it is scaled to the original by nearest neighbour.
        """
        ...
