"""Glob patterns for a walk that decides folder by folder which subfolders to enter."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

ANY_DEPTH = b"**"

States = frozenset[int]
"""Indices of the pattern parts that the next name can match; empty if nothing can match any more."""


class GlobPattern:
    """A glob pattern in which `**` matches any number of folders.

    Args:
        parts: Parts of the pattern between the slashes; `**` alone matches every file at any depth.
    """

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts
        self.start: States = self._close_states([0])

    def enter_folder(self, states: States, folder: bytes) -> States:
        """States after entering a folder of this name."""
        last_index = len(self._parts) - 1
        repeated_states = [index for index in states if self._parts[index] == ANY_DEPTH]
        next_states = [index + 1 for index in states if index < last_index and self._part_fits(index, folder)]
        return self._close_states([*repeated_states, *next_states])

    def matches_file(self, states: States, file: bytes) -> bool:
        """Whether a file of this name matches in these states."""
        last_index = len(self._parts) - 1
        return last_index in states and self._part_fits(last_index, file)

    def _part_fits(self, index: int, name: bytes) -> bool:
        return fnmatch.fnmatchcase(name, self._parts[index])

    def _close_states(self, states: Iterable[int]) -> States:
        """Add the states in which `**` matches no folder."""
        closed = set(states)
        for index, part in enumerate(self._parts[:-1]):
            if index in closed and part == ANY_DEPTH:
                closed.add(index + 1)
        return frozenset(closed)
