"""Directories, globs and single files on a local disk, and the containers among them."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator

import pyarrow as pa

from cvbatch.errors import LIST, RowError, SourceError
from cvbatch.sources.containers import ContainerOpener
from cvbatch.sources.entries import (
    CHUNK_ROWS,
    ListingReport,
    entry_table,
    readable_path,
    regroup_tables,
    unlisted_table,
)
from cvbatch.sources.filters import EXCLUDED, NO_FILTERS, FileFilters
from cvbatch.sources.glob import ANY_DEPTH, GlobPattern, States
from cvbatch.sources.output_folders import OUTPUT, OWN, STATE, is_output_folder, output_around, output_source_advice
from cvbatch.sources.suffixes import ImageSuffixes, skipped_kind

_MAGIC = frozenset(b"*?[")
_STATE = STATE.encode()
_OWN = frozenset(map(str.encode, OWN))
_EVERYTHING = GlobPattern([ANY_DEPTH])


class LocalFileSource:
    """Images below a directory, matched by a glob, or one file; a container stands for the images in it.

    Args:
        path: An absolute path or a glob pattern.
        suffixes: What is an image; by default the known image suffixes.
        containers: How archives and tables are opened; by default with all their columns.
        filters: What is left out; by default nothing.

    Raises:
        SourceError: If it is not there, or its first container has columns that cannot come along.
    """

    positional = False

    def __init__(
        self,
        path: str,
        suffixes: ImageSuffixes | None = None,
        containers: ContainerOpener | None = None,
        filters: FileFilters = NO_FILTERS,
    ) -> None:
        self.path = os.fsencode(path)
        self._top = _fixed_folder(self.path)
        self._named = (self.path, self._top.rstrip(b"/") or b"/")
        """Folders that are meant whatever else they are."""
        self._filters = filters
        self.listing = ListingReport()
        self._suffixes = suffixes or ImageSuffixes()
        self._containers = containers or ContainerOpener(self._suffixes)
        self._unlisted: dict[bytes, RowError] = {}
        self._seen: set[tuple[int, int, States]] = set()
        self._pattern = _EVERYTHING
        self._refuse_outputs()
        self._starts = [self.path] if os.path.lexists(self.path) else self._glob_matches(path)
        self._refuse_unknown_file()
        self.extra_columns = self._decide_extra_columns()

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield the images in byte order of their names, folder by folder, files before folders."""
        return regroup_tables(self._listed_tables(), CHUNK_ROWS.current_value)

    def _listed_tables(self) -> Iterator[pa.Table]:
        paths: list[bytes] = []
        for found in self._iter_files():
            holds = self._containers.is_container(found)
            if not holds:
                paths.append(found)
            if paths and (holds or len(paths) == CHUNK_ROWS.current_value):
                yield self._to_chunk(paths)
                paths = []
            if holds:
                fact = _stat_or_none(found)
                why = self._skip_reason(fact, holds=True)
                if why is not None:
                    self.listing.skipped[why] += 1
                    continue
                yield from self._containers.entry_tables(found, fact and fact.st_mtime_ns, self.listing)
        if paths:
            yield self._to_chunk(paths)
        for folder, error in self._unlisted.items():
            self.listing.lost += 1
            yield unlisted_table(folder, None, error, self.extra_columns)

    def _to_chunk(self, paths: list[bytes]) -> pa.Table:
        facts = list(map(_stat_or_none, paths))
        sizes = [fact.st_size if fact and stat.S_ISREG(fact.st_mode) else None for fact in facts]
        chunk = entry_table(paths, sizes, [fact.st_mtime_ns if fact else None for fact in facts])
        chunk = self._filters.filter_chunk(chunk, self.listing)
        for column in self.extra_columns:
            chunk = chunk.append_column(column, pa.nulls(chunk.num_rows, column.type))
        return chunk

    def _decide_extra_columns(self) -> pa.Schema:
        """The columns that come along: the first image of the source decides, or the container that it lies in."""
        if self._containers.extra_columns is None:
            for found in self._iter_files():
                holds = self._containers.is_container(found)
                if self._filters != NO_FILTERS and self._skip_reason(_stat_or_none(found), holds=holds) is not None:
                    continue
                if self._containers.decide_extra_columns(found if holds else None):
                    break
            else:
                self._containers.decide_extra_columns(None)
        assert self._containers.extra_columns is not None, "plain images decide, too"
        return self._containers.extra_columns

    def _skip_reason(self, fact: os.stat_result | None, *, holds: bool) -> str | None:
        """Why a file is left out; of a container only the time counts, and the sizes of its members."""
        if fact is None:
            return None
        return self._filters.skip_reason(None if holds else fact.st_size, fact.st_mtime_ns)

    def _iter_files(self) -> Iterator[bytes]:
        self.listing.clear_report()
        self._unlisted.clear()
        self._seen.clear()
        outputs = set[bytes]()
        for path in self._starts:
            output = None if path in self._named else _output_around_path(path, self._top)
            if output is None:
                yield from self._walk_folder(path)
            elif output not in outputs:
                outputs.add(output)
                self.listing.skipped[OUTPUT] += 1

    def _refuse_outputs(self) -> None:
        parts = os.fsdecode(self._top).split("/")
        output = output_around(parts, lambda some: is_output_folder(os.fsencode("/".join([*some, ""]))))
        if output is not None:
            raise SourceError(
                output_source_advice(readable_path(self.path), readable_path(os.fsencode("/".join(output))))
            )

    def _refuse_unknown_file(self) -> None:
        name = os.path.basename(self.path)
        if self._starts == [self.path] and not os.path.isdir(self.path) and not self._is_image_or_container(name):
            raise SourceError(
                f"{readable_path(self.path)}: expected a folder, an image, an archive, a table or a manifest (.csv, "
                ".tsv, .jsonl, .parquet, .arrow); source.extensions: any takes it as an image"
            )

    def _is_image_or_container(self, name: bytes) -> bool:
        return self._suffixes.is_image(name) or self._containers.is_container(name)

    def _glob_matches(self, path: str) -> list[bytes]:
        parts = self.path.split(b"/")
        magic = next((index for index, part in enumerate(parts) if _MAGIC & set(part)), None)
        if magic is None:
            raise SourceError(f"{path}: no such file or folder; check source.uri")
        if ANY_DEPTH not in parts:
            found = sorted(set(glob.iglob(self.path)))
            if not found and b"{" in self.path:
                raise SourceError(
                    f"{path}: nothing is called so, braces are taken literally: name each pattern with a --source of "
                    "its own, or in a list in source.uri"
                )
            return found
        # walked by ourselves: `glob` follows links that lead back up, again and again
        top = b"/".join(parts[:magic]) or b"/"
        if not os.path.isdir(top):
            raise SourceError(f"{path}: there is no folder {readable_path(top)}; check source.uri")
        self._pattern = GlobPattern(parts[magic:])
        return [top]

    def _walk_folder(self, start: bytes) -> Iterator[bytes]:
        if not os.path.isdir(start):
            if self._is_wanted_path(start):
                yield start
            return
        pending = [(start, self._pattern.start)]
        while pending:
            folder, states = pending.pop()
            if not self._is_first_visit(folder, states):
                continue
            files, folders = self._scan_folder(folder, states)
            yield from files
            pending.extend(reversed(folders))

    def _scan_folder(self, folder: bytes, states: States) -> tuple[list[bytes], list[tuple[bytes, States]]]:
        files, folders = [], []
        try:
            with os.scandir(folder) as scan:
                entries = sorted((entry for entry in scan if not entry.name.startswith(b".")), key=lambda e: e.name)
        except OSError as error:
            if folder == self.path:
                raise SourceError(f"{readable_path(folder)} cannot be listed: {error.strerror}") from None
            self.listing.unreadable[readable_path(folder)] = error.strerror or str(error)
            kind = "PermissionDenied" if isinstance(error, PermissionError) else type(error).__name__
            self._unlisted[folder] = RowError(LIST, kind, f"the folder cannot be listed: {error.strerror or error}")
            return [], []
        if any(entry.name == _STATE and _is_folder_entry(entry) for entry in entries):
            self.listing.skipped[OUTPUT] += 1
            if folder not in self._named:
                return [], []
            # whoever names an output as the source may have images beside it
            entries = [entry for entry in entries if entry.name not in _OWN]
        for entry in entries:
            if _is_folder_entry(entry):
                if below := self._pattern.enter_folder(states, entry.name):
                    folders.append((entry.path, below))
            elif self._pattern.matches_file(states, entry.name) and self._is_wanted_path(entry.path):
                files.append(entry.path)
        return files, folders

    def _is_first_visit(self, folder: bytes, states: States) -> bool:
        """Each real folder is taken once, however many links lead to it."""
        fact = _stat_or_none(folder)
        if fact is None:
            return True
        key = (fact.st_dev, fact.st_ino, states)
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _is_wanted_path(self, path: bytes) -> bool:
        name = os.path.basename(path)
        if not self._is_image_or_container(name):
            self.listing.skipped[skipped_kind(name)] += 1
            return False
        if self._filters.exclude and self._filters.is_excluded(path.removeprefix(self._top)):
            self.listing.skipped[EXCLUDED] += 1
            return False
        return True


def _fixed_folder(path: bytes) -> bytes:
    """Where paths within a source begin, slash included: its folder, or that before what a glob leaves open."""
    if os.path.isdir(path):
        return os.path.join(path, b"")
    folders = path.split(b"/")[:-1]
    magic = next((at for at, part in enumerate(folders) if _MAGIC & set(part)), len(folders))
    return b"/".join([*folders[:magic], b""])


def _output_around_path(path: bytes, top: bytes) -> bytes | None:
    """The output that a match of a glob belongs to, if it does."""
    parts = path.removeprefix(top).split(b"/")
    if parts[0] in _OWN and is_output_folder(top):
        return top
    below = (top + b"/".join(parts[: at + 1]) for at in range(len(parts)))
    return next((folder for folder in below if is_output_folder(folder)), None)


def _is_folder_entry(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _stat_or_none(path: bytes) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None
