"""What all readers of containers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from cvbatch.sources.entries import Span
from cvbatch.sources.fetch.blob import LazyBlob

Wanted = tuple[Span, int | None]
"""Where an image lies, and its size if known."""


class ContainerReader(ABC):
    """The images of one container that a unit asks for.

    Args:
        blob: The container.
        wanted: What is asked for.
    """

    def __init__(self, blob: LazyBlob, wanted: Sequence[Wanted]) -> None:
        self._blob = blob
        self._wanted = wanted

    @abstractmethod
    def read_image(self, index: int) -> bytes:
        """Read what was asked for at a position; called once for each, by several threads, about in order."""
