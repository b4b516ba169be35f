"""A graph behind the interface of all networks: images in, outputs that tasks read."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from cvbatch.images.preprocess import Size
from cvbatch.inference.graphs.box_decoding import decode_boxes
from cvbatch.inference.graphs.probabilities import to_probabilities
from cvbatch.inference.network import Answers, Image
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import ModelFacts
from cvbatch.tasks.detection import BoxAnswer
from cvbatch.tasks.masks import scaled_nearest
from cvbatch.tasks.segmentation import SegmentAnswer, emitted_label_ids, summarize_label_map

Arrays = Mapping[str, npt.NDArray[Any]]
"""Outputs by name; the first axis counts images."""


class GraphSession(Protocol):
    """A loaded graph."""

    @property
    def dtype(self) -> str:
        """Of the input, as NumPy calls it."""

    def run(self, batch: Any, threads: int = 1) -> Arrays:
        """Run images, in as many calls as the graph needs.

        Args:
            batch: (images, …) as the graph wants them: an array, or a tensor on the device.
            threads: Calls at the same time.
        """


class GraphNetwork:
    """A graph.

    Args:
        session: The loaded graph.
        reading: How it is fed, and how its outputs are read.
        device: `cpu`, `cuda` or `cuda:N`.
    """

    parallel = True

    def __init__(self, session: GraphSession, reading: GraphReading, device: str) -> None:
        from cvbatch.inference.torch.graph_input import GraphInput

        self._session, self._reading = session, reading
        self._batch = GraphInput(reading, session.dtype, device)
        self._threads = 1

    def use_threads(self, count: int) -> None:
        """See `Network.use_threads`; a batch is split into as many calls."""
        self._threads = count

    def batch_key(self, image: Image) -> Hashable:
        """The shape of the image."""
        return image.shape

    def run_batch(self, images: Sequence[Image], sizes: Sequence[Size], specs: Sequence[ModelSpec]) -> Answers:
        """See `ForwardPass.run_batch`."""
        arrays = self._session.run(self._batch(images), self._threads)
        outputs = GraphOutputs(arrays, self._reading, images[0].shape[:2], sizes)
        return {spec.alias: TASKS[spec.task].take_answers(outputs, spec) for spec in specs}


class GraphOutputs:
    """Outputs for a batch; each part is computed when a task reads it.

    Args:
        arrays: Outputs by name.
        reading: How they are read.
        frame: (height, width) of the images that the graph saw.
        sizes: (width, height) of each oriented original.
    """

    def __init__(self, arrays: Arrays, reading: GraphReading, frame: tuple[int, ...], sizes: Sequence[Size]) -> None:
        self._arrays = {role: arrays[name] for role, name in reading.outputs.items()}
        self._reading, self._frame, self._sizes = reading, frame, sizes

    @cached_property
    def scores(self) -> list[npt.NDArray[np.float32]]:
        """Probabilities of the classes for each image, (classes,)."""
        numbers = self._arrays["scores"].reshape(len(self._sizes), -1).astype(np.float32)
        return list(to_probabilities(numbers, self._reading))

    @cached_property
    def vectors(self) -> list[npt.NDArray[np.float32]]:
        """A feature vector for each image, (dimension,); the mean over positions if there are any."""
        numbers = self._arrays["vector"].astype(np.float32)
        return list(numbers.mean(axis=(2, 3)) if numbers.ndim == 4 else numbers.reshape(len(numbers), -1))

    def boxes(self, model: ModelFacts) -> list[BoxAnswer]:
        """The boxes of each image."""
        return [
            decode_boxes(
                model,
                {role: array[index] for role, array in self._arrays.items()},
                self._reading,
                (self._frame[0], self._frame[1]),
                size,
            )
            for index, size in enumerate(self._sizes)
        ]

    def segments(self, model: ModelFacts) -> list[SegmentAnswer]:
        """The segments of each image."""
        from cvbatch.inference.torch.segmenter import label_map_of_scores

        answers = []
        for scores, size in zip(self._arrays["scores"], self._sizes, strict=True):
            if self._reading.head == "class_map":
                label_map = scaled_nearest(scores.reshape(scores.shape[-2:]).astype(np.int64), size, model.view)
            else:
                frame = self._channels_first(scores)
                label_map = label_map_of_scores(frame, size, view=model.view, name=model.alias)
            answers.append(summarize_label_map(label_map, emitted_label_ids(model)))
        return answers

    def _channels_first(self, scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return scores if scores.shape[0] == self._reading.classes else np.moveaxis(scores, -1, 0)
