"""Glob patterns for a walk that decides folder by folder where to go on."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

ANY_DEPTH = b"**"

States = frozenset[int]
"""Parts of the pattern that the next name may have to match; empty where nothing can match any more."""


class GlobPattern:
    """The parts of a glob pattern, in which `**` stands for any number of folders.

    Args:
        parts: What stands between the slashes; `**` alone takes every file at any depth.
    """

    def __init__(self, parts: Sequence[bytes]) -> None:
        self._parts = parts
        self.start: States = self._close_states([0])

    def enter_folder(self, states: States, folder: bytes) -> States:
        """Where the pattern stands inside a folder of this name."""
        last = len(self._parts) - 1
        stay = [at for at in states if self._parts[at] == ANY_DEPTH]
        go_on = [at + 1 for at in states if at < last and self._part_fits(at, folder)]
        return self._close_states([*stay, *go_on])

    def matches_file(self, states: States, file: bytes) -> bool:
        """Whether a file of this name is matched here."""
        last = len(self._parts) - 1
        return last in states and self._part_fits(last, file)

    def _part_fits(self, at: int, name: bytes) -> bool:
        return fnmatch.fnmatchcase(name, self._parts[at])

    def _close_states(self, states: Iterable[int]) -> States:
        """Add what may come next where `**` stands for no folder at all."""
        found = set(states)
        for at, part in enumerate(self._parts[:-1]):
            if at in found and part == ANY_DEPTH:
                found.add(at + 1)
        return frozenset(found)
