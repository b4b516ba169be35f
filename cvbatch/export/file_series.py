"""Numbered files of an export, each with a limited number of items."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import IO, Generic, TypeVar

from cvbatch.export.targets import ExportTarget

W = TypeVar("W")


class FileSeries(Generic[W]):
    """Opens one file after the other; a context manager.

    Args:
        target: The folder.
        name_pattern: With the number in braces, such as `shard-{:06d}.tar`.
        max_items: Most items in one file.
        open_writer: Makes what writes into an opened file.
    """

    def __init__(
        self,
        target: ExportTarget,
        name_pattern: str,
        max_items: int,
        open_writer: Callable[[IO[bytes]], AbstractContextManager[W]],
    ) -> None:
        self._target, self._name_pattern, self._max_items = target, name_pattern, max_items
        self._open_writer = open_writer
        self._stack = ExitStack()
        self._writer: W | None = None
        self._files = self._items = 0

    def __enter__(self) -> FileSeries[W]:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    @property
    def is_empty(self) -> bool:
        """Whether no file was opened yet."""
        return self._writer is None

    @property
    def room(self) -> int:
        """Number of items that the file of the next `add_items` can take."""
        remaining = self._max_items - self._items
        return remaining if self._writer is not None and remaining else self._max_items

    def add_items(self, count: int) -> W:
        """What writes the next items, into the same file if they fit.

        Args:
            count: At most `room`.
        """
        if self._writer is None or self._items + count > self._max_items:
            self._stack.close()
            file = self._stack.enter_context(self._target.open_file(self._name_pattern.format(self._files)))
            self._writer = self._stack.enter_context(self._open_writer(file))
            self._files, self._items = self._files + 1, 0
        self._items += count
        return self._writer
