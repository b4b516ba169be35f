"""A graph as all frameworks have it: inputs, outputs, and what its exporter wrote into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cvbatch.errors import ModelError, try_call

Shape = tuple[int | None, ...]
"""None for a length that the graph leaves open."""


@dataclass(frozen=True, slots=True)
class GraphTensor:
    """An input or an output."""

    name: str
    shape: Shape
    dtype: str
    """As NumPy calls it."""

    def __str__(self) -> str:
        return (
            f"{self.name} ({', '.join('?' if length is None else str(length) for length in self.shape)}) {self.dtype}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Facts about a graph."""

    name: str
    """Of its file, for messages."""
    inputs: tuple[GraphTensor, ...]
    outputs: tuple[GraphTensor, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    producer: str = ""
    """Name of the program that wrote it; may be empty."""
    finished: frozenset[str] = frozenset()
    """Outputs that end in softmax or sigmoid, so that they are probabilities."""
    run: Callable[[Mapping[str, Any]], Sequence[Any]] | None = None
    """Computes the outputs for an input, to see their shapes; None if they are known."""

    def describe_outputs(self) -> str:
        """Names, shapes and types, for messages."""
        return ", ".join(map(str, self.outputs))


def with_measured_shapes(graph: Graph, feed: Mapping[str, Any]) -> Graph:
    """The graph with the shapes of its outputs for an input, where it leaves some open.

    Raises:
        ModelError: It does not run.
    """
    run = graph.run
    if run is None or all(length is not None for output in graph.outputs for length in output.shape[1:]):
        return graph
    arrays = try_call(lambda: run(feed))
    if isinstance(arrays, Exception):
        shapes = ", ".join(f"{name} {np.shape(value)}" for name, value in feed.items())
        raise ModelError(f"{graph.name}: does not run for {shapes}: {' '.join(str(arrays).split())[:300]}")
    outputs = tuple(
        replace(output, shape=_merge_shapes(output.shape, array.shape))
        for output, array in zip(graph.outputs, arrays, strict=True)
    )
    return replace(graph, outputs=outputs)


def _merge_shapes(known: Shape, measured: Sequence[int]) -> Shape:
    """The measured lengths, except a first one that is the number of images or boxes."""
    if not measured:
        return ()
    first = known[0] if len(known) == len(measured) else None
    return (first, *measured[1:])
