"""Directories, globs and single files on a local disk."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator

import pyarrow as pa

from cvbatch.errors import SourceError
from cvbatch.sources.entries import CHUNK_ROWS, Listing, entry_table, readable
from cvbatch.sources.patterns import ANY_DEPTH, Pattern, States

IMAGE_SUFFIXES = frozenset(
    "jpg jpeg jpe jfif png webp gif bmp tif tiff avif heic heif jp2 mpo".split()  # noqa: SIM905 - reads as a table
)
_MAGIC = frozenset(b"*?[")
_EVERYTHING = Pattern([ANY_DEPTH])

_Found = tuple[bytes, os.stat_result | None]
"""A path, and what the file system says of it; None if it says nothing."""


class FileSource:
    """Images below a directory, matched by a glob, or one file.

    Args:
        path: An absolute path or a glob pattern.
        extensions: Suffixes without dot, `any`, or None for the known image suffixes.
    """

    carried = pa.schema([])
    numbered = False

    def __init__(self, path: str, extensions: str | Iterable[str] | None = None) -> None:
        self.path = os.fsencode(path)
        self.listing = Listing()
        self._suffixes: frozenset[str] | None = IMAGE_SUFFIXES
        if extensions == "any":
            self._suffixes = None
        elif extensions is not None:
            self._suffixes = frozenset(suffix.lower().lstrip(".") for suffix in extensions)
        self._seen: set[tuple[int, int, States]] = set()
        self._pattern = _EVERYTHING
        self._starts = [self.path] if os.path.lexists(self.path) else self._matches(path)

    def chunks(self) -> Iterator[pa.Table]:
        """Yield the images in byte order of their names, folder by folder, files before folders."""
        self.listing.skipped.clear()
        self.listing.unreadable.clear()
        self._seen.clear()
        paths: list[bytes] = []
        facts: list[os.stat_result | None] = []
        for path in self._starts:
            for found, fact in self._walk(path):
                paths.append(found)
                facts.append(fact)
                if len(paths) == CHUNK_ROWS:
                    yield _chunk(paths, facts)
                    paths, facts = [], []
        if paths:
            yield _chunk(paths, facts)

    def _matches(self, path: str) -> list[bytes]:
        parts = self.path.split(b"/")
        magic = next((index for index, part in enumerate(parts) if _MAGIC & set(part)), None)
        if magic is None:
            raise SourceError(f"{path}: no such file or folder; check source.uri")
        if ANY_DEPTH not in parts:
            return sorted(set(glob.iglob(self.path)))
        # walked by ourselves: `glob` follows links that lead back up, again and again
        top = b"/".join(parts[:magic]) or b"/"
        if not os.path.isdir(top):
            raise SourceError(f"{path}: there is no folder {readable(top)}; check source.uri")
        self._pattern = Pattern(parts[magic:])
        return [top]

    def _walk(self, start: bytes) -> Iterator[_Found]:
        if not os.path.isdir(start):
            if self._wanted(os.path.basename(start)):
                yield start, _stat(start)
            return
        pending = [(start, self._pattern.start)]
        while pending:
            folder, states = pending.pop()
            if not self._first_visit(folder, states):
                continue
            files, folders = self._scan(folder, states)
            yield from files
            pending.extend(reversed(folders))

    def _scan(self, folder: bytes, states: States) -> tuple[list[_Found], list[tuple[bytes, States]]]:
        files, folders = [], []
        try:
            with os.scandir(folder) as scan:
                entries = sorted((entry for entry in scan if not entry.name.startswith(b".")), key=lambda e: e.name)
        except OSError as error:
            if folder == self.path:
                raise SourceError(f"{readable(folder)} cannot be listed: {error.strerror}") from None
            self.listing.unreadable.append(readable(folder))
            return [], []
        for entry in entries:
            if _is_folder(entry):
                if below := self._pattern.below(states, entry.name):
                    folders.append((entry.path, below))
            elif self._pattern.takes(states, entry.name) and self._wanted(entry.name):
                files.append((entry.path, _stat(entry.path)))
        return files, folders

    def _first_visit(self, folder: bytes, states: States) -> bool:
        """Each real folder is taken once, however many links lead to it."""
        fact = _stat(folder)
        if fact is None:
            return True
        key = (fact.st_dev, fact.st_ino, states)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _wanted(self, name: bytes) -> bool:
        suffix = readable(os.path.splitext(name)[1]).lower().lstrip(".")
        if self._suffixes is None or suffix in self._suffixes:
            return True
        self.listing.skipped[f".{suffix}" if suffix else "no suffix"] += 1
        return False


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stat(path: bytes) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _chunk(paths: list[bytes], facts: list[os.stat_result | None]) -> pa.Table:
    sizes = [fact.st_size if fact and stat.S_ISREG(fact.st_mode) else None for fact in facts]
    return entry_table(paths, sizes, [fact.st_mtime_ns if fact else None for fact in facts])
