"""Source of images on a local disk: a folder, a glob or one file."""

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
    """Images below a folder, matched by a glob, or a single file; a container is replaced by its images.

    Args:
        path: An absolute path or a glob pattern.
        suffixes: Suffixes of image files; by default the known ones.
        containers: Opens archives and tables; by default with all their columns.
        filters: Files to skip; by default none.

    Raises:
        SourceError: If the path does not exist, or the first container has columns that cannot be kept.
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
        self._top_folder = _fixed_folder(self.path)
        self._requested_folders = (self.path, self._top_folder.rstrip(b"/") or b"/")
        """Folders that the job names; they are listed even if they are outputs."""
        self._filters = filters
        self.listing = ListingReport()
        self._suffixes = suffixes or ImageSuffixes()
        self._containers = containers or ContainerOpener(self._suffixes)
        self._unlisted: dict[bytes, RowError] = {}
        self._visited_folders: set[tuple[int, int, States]] = set()
        self._pattern = _EVERYTHING
        self._refuse_outputs()
        self._start_paths = [self.path] if os.path.lexists(self.path) else self._glob_matches(path)
        self._refuse_unknown_file()
        self.extra_columns = self._decide_extra_columns()

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield the images in byte order of their names, folder by folder; files precede subfolders."""
        return regroup_tables(self._listed_tables(), CHUNK_ROWS.current_value)

    def _listed_tables(self) -> Iterator[pa.Table]:
        paths: list[bytes] = []
        for path in self._iter_files():
            is_container = self._containers.is_container(path)
            if not is_container:
                paths.append(path)
            if paths and (is_container or len(paths) == CHUNK_ROWS.current_value):
                yield self._to_chunk(paths)
                paths = []
            if is_container:
                file_stat = _stat_or_none(path)
                reason = self._skip_reason(file_stat, is_container=True)
                if reason is not None:
                    self.listing.skipped[reason] += 1
                    continue
                yield from self._containers.entry_tables(path, file_stat and file_stat.st_mtime_ns, self.listing)
        if paths:
            yield self._to_chunk(paths)
        for folder, error in self._unlisted.items():
            self.listing.lost += 1
            yield unlisted_table(folder, None, error, self.extra_columns)

    def _to_chunk(self, paths: list[bytes]) -> pa.Table:
        file_stats = list(map(_stat_or_none, paths))
        sizes = [
            file_stat.st_size if file_stat and stat.S_ISREG(file_stat.st_mode) else None for file_stat in file_stats
        ]
        chunk = entry_table(paths, sizes, [file_stat.st_mtime_ns if file_stat else None for file_stat in file_stats])
        chunk = self._filters.filter_chunk(chunk, self.listing)
        for column in self.extra_columns:
            chunk = chunk.append_column(column, pa.nulls(chunk.num_rows, column.type))
        return chunk

    def _decide_extra_columns(self) -> pa.Schema:
        """The extra columns, decided by the first image or the container that holds it."""
        if self._containers.extra_columns is None:
            for path in self._iter_files():
                is_container = self._containers.is_container(path)
                if (
                    self._filters != NO_FILTERS
                    and self._skip_reason(_stat_or_none(path), is_container=is_container) is not None
                ):
                    continue
                if self._containers.decide_extra_columns(path if is_container else None):
                    break
            else:
                self._containers.decide_extra_columns(None)
        assert self._containers.extra_columns is not None, "plain images also decide"
        return self._containers.extra_columns

    def _skip_reason(self, file_stat: os.stat_result | None, *, is_container: bool) -> str | None:
        """Reason to skip a file; the size of a container is ignored, as the sizes of its members count."""
        if file_stat is None:
            return None
        return self._filters.skip_reason(None if is_container else file_stat.st_size, file_stat.st_mtime_ns)

    def _iter_files(self) -> Iterator[bytes]:
        self.listing.clear_report()
        self._unlisted.clear()
        self._visited_folders.clear()
        counted_outputs = set[bytes]()
        for path in self._start_paths:
            output_folder = None if path in self._requested_folders else _output_around_path(path, self._top_folder)
            if output_folder is None:
                yield from self._walk_folder(path)
            elif output_folder not in counted_outputs:
                counted_outputs.add(output_folder)
                self.listing.skipped[OUTPUT] += 1

    def _refuse_outputs(self) -> None:
        parts = os.fsdecode(self._top_folder).split("/")
        output_parts = output_around(
            parts, lambda folder_parts: is_output_folder(os.fsencode("/".join([*folder_parts, ""])))
        )
        if output_parts is not None:
            raise SourceError(
                output_source_advice(readable_path(self.path), readable_path(os.fsencode("/".join(output_parts))))
            )

    def _refuse_unknown_file(self) -> None:
        name = os.path.basename(self.path)
        if self._start_paths == [self.path] and not os.path.isdir(self.path) and not self._is_image_or_container(name):
            raise SourceError(
                f"{readable_path(self.path)}: expected a folder, an image, an archive, a table or a manifest (.csv, "
                ".tsv, .jsonl, .parquet, .arrow); to read it as an image, set source.extensions: any"
            )

    def _is_image_or_container(self, name: bytes) -> bool:
        return self._suffixes.is_image(name) or self._containers.is_container(name)

    def _glob_matches(self, path: str) -> list[bytes]:
        parts = self.path.split(b"/")
        glob_start = next((index for index, part in enumerate(parts) if _MAGIC & set(part)), None)
        if glob_start is None:
            raise SourceError(f"{path}: no such file or folder; check --source or source.uri")
        if ANY_DEPTH not in parts:
            matches = sorted(set(glob.iglob(self.path)))
            if not matches and b"{" in self.path:
                raise SourceError(
                    f"{path}: nothing matches, and braces are taken literally: name each pattern with a --source of "
                    "its own, or in a list in source.uri"
                )
            return matches
        # our own walk: `glob` follows links that lead to a parent folder again and again
        top_folder = b"/".join(parts[:glob_start]) or b"/"
        if not os.path.isdir(top_folder):
            raise SourceError(f"{path}: there is no folder {readable_path(top_folder)}; check --source or source.uri")
        self._pattern = GlobPattern(parts[glob_start:])
        return [top_folder]

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
            error_type = "PermissionDenied" if isinstance(error, PermissionError) else type(error).__name__
            self._unlisted[folder] = RowError(
                LIST, error_type, f"the folder cannot be listed: {error.strerror or error}"
            )
            return [], []
        if any(entry.name == _STATE and _is_folder_entry(entry) for entry in entries):
            self.listing.skipped[OUTPUT] += 1
            if folder not in self._requested_folders:
                return [], []
            # an output that is named as the source may contain images beside its own files
            entries = [entry for entry in entries if entry.name not in _OWN]
        for entry in entries:
            if _is_folder_entry(entry):
                if substates := self._pattern.enter_folder(states, entry.name):
                    folders.append((entry.path, substates))
            elif self._pattern.matches_file(states, entry.name) and self._is_wanted_path(entry.path):
                files.append(entry.path)
        return files, folders

    def _is_first_visit(self, folder: bytes, states: States) -> bool:
        """Whether a folder is visited for the first time; links to the same folder count as one."""
        folder_stat = _stat_or_none(folder)
        if folder_stat is None:
            return True
        key = (folder_stat.st_dev, folder_stat.st_ino, states)
        if key in self._visited_folders:
            return False
        self._visited_folders.add(key)
        return True

    def _is_wanted_path(self, path: bytes) -> bool:
        name = os.path.basename(path)
        if not self._is_image_or_container(name):
            self.listing.skipped[skipped_kind(name)] += 1
            return False
        if self._filters.exclude and self._filters.is_excluded(path.removeprefix(self._top_folder)):
            self.listing.skipped[EXCLUDED] += 1
            return False
        return True


def _fixed_folder(path: bytes) -> bytes:
    """The folder of a source, or the folder before the first wildcard of a glob, with a trailing slash."""
    if os.path.isdir(path):
        return os.path.join(path, b"")
    folders = path.split(b"/")[:-1]
    glob_start = next((index for index, part in enumerate(folders) if _MAGIC & set(part)), len(folders))
    return b"/".join([*folders[:glob_start], b""])


def _output_around_path(path: bytes, top_folder: bytes) -> bytes | None:
    """The output folder that a match of a glob belongs to, or None."""
    parts = path.removeprefix(top_folder).split(b"/")
    if parts[0] in _OWN and is_output_folder(top_folder):
        return top_folder
    parent_folders = (top_folder + b"/".join(parts[: index + 1]) for index in range(len(parts)))
    return next((folder for folder in parent_folders if is_output_folder(folder)), None)


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
