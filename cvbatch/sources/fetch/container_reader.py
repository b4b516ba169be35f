"""What all readers of containers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from cvbatch.sources.entries import Span
from cvbatch.sources.fetch.blob import OpenedOnce

Wanted = tuple[Span, int | None]
"""Where an image lies, and its size if known."""


class Reader(ABC):
    """The images of one container that a unit asks for.

    Args:
        blob: The container.
        wanted: What is asked for.
    """

    def __init__(self, blob: OpenedOnce, wanted: Sequence[Wanted]) -> None:
        self._blob = blob
        self._wanted = wanted

    @abstractmethod
    def read(self, at: int) -> bytes:
        """Read what was asked for at a position; called once for each, by several threads, about in order."""
