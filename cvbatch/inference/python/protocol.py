"""The protocol of `python:` models: what a factory must return to take part in a job.

A job names it as `model: python:package.module:factory`; `options:` are the keyword arguments of the factory. It is
called once in each process that predicts, and once more before the run to read its attributes. The folder of the
job file is importable; it comes last, so give your module a name of its own. Files in `options:` may be given relative
to the job file: the factory gets their absolute paths, and a run whose files or source have changed is not gone on
with. `jobs/brightness.py` is a complete example, and `cvbatch.testing.check_model` checks
a model of yours. Nothing here needs torch.
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
"""RGB, (height, width, 3); do not write into it."""
Size = tuple[int, int]
"""(width, height) of the oriented original, in pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """What a detection model finds in one image; arrays are aligned, in any order."""

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
    """What the factory returns.

    Embedding models also have `dimension`, the length of their vectors. Further attributes are optional: `masks` and
    `keypoints` (detection gives them; default false), `logits` (classification gives logits, of which a softmax is
    taken; default false), `label_map` (name and version of the categories) and `licence`.

    What cannot be an answer is an error of its image, `InvalidOutput`: numbers that are not finite, scores outside of
    0 to 1, boxes without an area or far outside, label ids without a category, masks that are not boolean.
    """

    task: Task
    """What the model does."""
    view: View
    """How it wants images; without crop, the images of one call differ in size."""
    categories: Sequence[str | None] | Mapping[int, str]
    """Name of each label id; None, or none in a mapping, for one that is never emitted. Embedding: empty."""

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        """Answer for each image; what is raised becomes the error of the image that caused it.

        Args:
            images: uint8 RGB, as `view` says.
            sizes: (width, height) of each oriented original.

        Returns:
            By task. Classification: float scores from 0 to 1, (images, categories). Embedding: float vectors, (images,
            dimension). Detection: one `Detections` per image. Segmentation: one integer array (height, width) of
            label ids per image, which is scaled to the original by nearest neighbour.
        """
        ...
