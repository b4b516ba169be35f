"""Directories, globs and single files on a local disk."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Iterator

import pyarrow as pa

from cvbatch.errors import SourceError
from cvbatch.sources.entries import CHUNK_ROWS, Listing, entry_table, readable

IMAGE_SUFFIXES = frozenset(
    "jpg jpeg jpe jfif png webp gif bmp tif tiff avif heic heif jp2 mpo".split()  # noqa: SIM905 - reads as a table
)
_MAGIC = frozenset("*?[")


class FileSource:
    """Images below a directory, matched by a glob, or one file.

    Args:
        path: A local path or a glob pattern.
        extensions: Suffixes without dot, `any`, or None for the known image suffixes.
    """

    carried = pa.schema([])
    numbered = False

    def __init__(self, path: str, extensions: str | Iterable[str] | None = None) -> None:
        self.path = os.fsencode(os.path.abspath(os.path.expanduser(path)))
        self.listing = Listing()
        self._suffixes: frozenset[str] | None = IMAGE_SUFFIXES
        if extensions == "any":
            self._suffixes = None
        elif extensions is not None:
            self._suffixes = frozenset(suffix.lower().lstrip(".") for suffix in extensions)
        self._seen: set[tuple[int, int]] = set()
        self._starts = [self.path]
        if not os.path.lexists(self.path):
            self._starts = self._matches(path)

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

    def _matches(self, pattern: str) -> list[bytes]:
        if not _MAGIC & set(pattern):
            raise SourceError(f"{pattern}: no such file or folder; check source.uri")
        matches = sorted(glob.iglob(os.fsencode(os.path.abspath(os.path.expanduser(pattern))), recursive=True))
        # `**` matches each file itself as well as the folders above it
        return [path for path in matches if not os.path.isdir(path)] if "**" in pattern else matches

    def _walk(self, start: bytes) -> Iterator[tuple[bytes, os.stat_result | None]]:
        if not os.path.isdir(start):
            if self._wanted(os.path.basename(start)):
                yield start, _stat(start)
            return
        pending = [start]
        while pending:
            folder = pending.pop()
            if not self._first_visit(folder):
                continue
            files, folders = self._scan(folder)
            yield from files
            pending.extend(reversed(folders))

    def _scan(self, folder: bytes) -> tuple[list[tuple[bytes, os.stat_result | None]], list[bytes]]:
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
                folders.append(entry.path)
            elif self._wanted(entry.name):
                files.append((entry.path, _stat(entry.path)))
        return files, folders

    def _first_visit(self, folder: bytes) -> bool:
        """Each real folder is taken once, however many links lead to it."""
        fact = _stat(folder)
        key = (fact.st_dev, fact.st_ino) if fact else (0, hash(folder))
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
