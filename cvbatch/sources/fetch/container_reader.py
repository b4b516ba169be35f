"""Base class of the readers of containers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from cvbatch.sources.entries import Span
from cvbatch.sources.fetch.blob import LazyBlob

Wanted = tuple[Span, int | None]
"""Span of an image, and its size in bytes if known."""


class ContainerReader(ABC):
    """Reads the images of one container that a unit needs.

    Args:
        blob: The container.
        wanted: The requested images.
    """

    def __init__(self, blob: LazyBlob, wanted_spans: Sequence[Wanted]) -> None:
        self._blob = blob
        self._wanted = wanted_spans

    @abstractmethod
    def read_image(self, index: int) -> bytes:
        """Read a requested image by its index; called once per index, by several threads, roughly in order."""
