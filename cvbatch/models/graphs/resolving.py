"""From a file and a job's entry to everything that workers need to know of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View, compute_output_size
from cvbatch.models.graphs.categories import Categories, find_categories, fit_categories_to_outputs
from cvbatch.models.graphs.exporters import keys_of_exporter
from cvbatch.models.graphs.graph import Graph, with_measured_shapes
from cvbatch.models.graphs.heads import recognise_head
from cvbatch.models.graphs.keys import GraphKeys, parse_keys
from cvbatch.models.graphs.preparation import TARGET_SIZES, Preparation, find_image_input, plan_preparation
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.tasks import CLASSIFICATION, TASKS
from cvbatch.tasks.base import Task

_TYPICAL_SIZE = (640, 480)
"""(width, height) of an image where a view keeps the sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedGraph:
    """A graph, completely described."""

    task: Task
    view: View
    reading: GraphReading
    categories: Categories
    label_map: str
    licence: str
    masks: bool
    keypoints: bool
    dimension: int | None
    image_input: str
    """Name of the input."""
    image_shape: tuple[int, ...]
    """Of an input of one image of a usual size, or of the fixed number of images."""


def resolve_graph(graph: Graph, keys_beside: GraphKeys, config: ModelConfig, folder: Path) -> ResolvedGraph:
    """Combine what the file, the YAML file beside it and the job say; the job counts most.

    Args:
        graph: The graph.
        keys_beside: Of the YAML file.
        config: The job's entry.
        folder: Folder of the model, from which files in the YAML file are found.

    Raises:
        ModelError: Something is not known, or does not fit.
    """
    of_job = parse_keys(config.options, f"options of {graph.name}")
    keys = keys_of_exporter(graph).replaced_by(keys_beside).replaced_by(of_job)
    task = _find_task(graph, config, keys)
    categories, label_map = find_categories(config, keys, task, folder)
    preparation = plan_preparation(graph, keys, task)
    shape = input_shape(preparation)
    graph = with_measured_shapes(graph, _empty_feed(graph, preparation, shape))
    head = recognise_head(graph, keys, task.name, len(categories) or None)
    reading = GraphReading(layout=preparation.layout, batch=preparation.batch, **preparation.numbers, **head.fields)
    return ResolvedGraph(
        task=task,
        view=preparation.view,
        reading=reading,
        categories=fit_categories_to_outputs(categories, reading, graph.name, task),
        label_map=label_map,
        licence=keys.licence or "",
        masks=head.masks and "masks" in task.facts,
        keypoints=head.keypoints,
        dimension=head.dimension,
        image_input=find_image_input(graph).name,
        image_shape=tuple(shape),
    )


def input_shape(preparation: Preparation) -> list[int]:
    """Shape of the input for one image of a usual size, or for the fixed number of images."""
    width, height = compute_output_size(preparation.view, _TYPICAL_SIZE)
    lengths = {"n": preparation.batch or 1, "c": 3, "h": height, "w": width}
    return [lengths[axis] for axis in preparation.layout]


def _empty_feed(graph: Graph, preparation: Preparation, shape: Sequence[int]) -> dict[str, Any]:
    image = find_image_input(graph)
    feed: dict[str, Any] = {image.name: np.zeros(shape, image.dtype)}
    for tensor in graph.inputs:
        if tensor.name == TARGET_SIZES:
            feed[tensor.name] = np.full((preparation.batch or 1, 2), 640, tensor.dtype)
    return feed


def _find_task(graph: Graph, config: ModelConfig, keys: GraphKeys) -> Task:
    """The task that the job names, or the file; a single vector with names of classes means classification."""
    name = config.task or keys.task
    if name is None and (config.categories or keys.categories):
        vectors = [output for output in graph.outputs if len(output.shape) == 2]
        name = CLASSIFICATION.name if len(vectors) == len(graph.outputs) == 1 else None
    if name is None or name not in TASKS:
        got = "" if name is None else f", got {name!r}"
        raise ModelError(
            f"{graph.name}: give task: {' or '.join(TASKS)}{got}; its outputs are {graph.describe_outputs()}"
        )
    return TASKS[name]
