"""Source of images in a bucket: a prefix, a glob or one object, listed by concurrent requests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import SourceError
from cvbatch.sources.bucket_walk import WalkPosition, WalkStep, walk_bucket
from cvbatch.sources.containers import ContainerOpener
from cvbatch.sources.entries import CHUNK_ROWS, ListingMark, ListingReport, object_table
from cvbatch.sources.filters import EXCLUDED, NO_FILTERS, FileFilters, to_nanoseconds
from cvbatch.sources.glob import GlobPattern
from cvbatch.sources.output_folders import OUTPUT, REPORT, STATE, output_around, output_source_advice
from cvbatch.sources.suffixes import ImageSuffixes, skipped_kind
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location

_MAGIC: Final = frozenset("*?[")
_AT_ONCE: Final = 16
"""Containers that are listed concurrently."""
_CHUNK_SECONDS: Final = 30.0
"""A chunk also ends after this many seconds, so that a kill loses little of the listing."""


class BucketSource:
    """Images below a prefix, matched by a glob, or a single object; a container is replaced by its images.

    Args:
        location: A bucket and a prefix, key or glob. A prefix is a folder: `photos` does not match `photos2/a.jpg`.
        suffixes: Suffixes of image files.
        containers: Opens archives and tables.
        filters: Files to skip.

    Raises:
        SourceError: If no object matches, or the first container has columns that cannot be kept.
        StorageError: If the bucket cannot be listed.
    """

    positional = False

    def __init__(
        self,
        location: Location,
        suffixes: ImageSuffixes,
        containers: ContainerOpener,
        filters: FileFilters = NO_FILTERS,
    ) -> None:
        self.listing = ListingReport()
        self._filters = filters
        self._location, self._suffixes, self._containers = location, suffixes, containers
        self._bucket = open_bucket(location)
        self._root_uri = f"{location.scheme}://{location.bucket}/"
        self._pattern: GlobPattern | None = None
        self._outputs = dict[str, bool]()
        """Whether each checked folder is an output."""
        self._counted_outputs = set[str]()
        self._prefix = self._split_off_glob(location.key)
        if (output_folder := self._output_around_key(self._prefix)) is not None:
            raise SourceError(output_source_advice(str(location), f"{self._root_uri}{output_folder}"))
        # globs of `exclude` match a single object by its name
        self._top_folder = self._prefix[: self._prefix.rfind("/") + 1]
        self._first_step: WalkStep | None = None
        self.extra_columns = self._decide_extra_columns()

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield the images, folder by folder in key order; the objects of a folder precede its subfolders."""
        return (chunk for chunk, _ in self.iter_marked_chunks())

    def iter_marked_chunks(self, mark: ListingMark | None = None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """Yield each chunk of images with a mark that a later listing can resume from, or None if it has no mark.

        Args:
            mark: Resume after the chunk that this mark came with, perhaps in another process.
        """
        self.listing.clear_report()
        self._counted_outputs.clear()
        steps = self._restart_listing()
        if mark is not None:
            self._counted_outputs.update(mark.get("outputs", ()))
            self.listing.lost = mark.get("lost", 0)
            self.listing.skipped.update(mark["skipped"])
            self.listing.unreadable.update(mark["unreadable"])
            steps = walk_bucket(self._location, WalkPosition.from_json(mark["position"]))
        pending_tables, rows, start_time = list[pa.Table](), 0, time.monotonic()
        for table, position in self._listed_tables(steps):
            pending_tables.append(table)
            rows += table.num_rows
            chunk_timed_out = time.monotonic() - start_time > _CHUNK_SECONDS
            if rows >= CHUNK_ROWS.current_value or (rows and position is not None and chunk_timed_out):
                yield (
                    pa.concat_tables(pending_tables).combine_chunks(),
                    None if position is None else self._listing_mark(position),
                )
                pending_tables, rows, start_time = [], 0, time.monotonic()
        if rows:
            yield pa.concat_tables(pending_tables).combine_chunks(), None

    def _restart_listing(self) -> Iterator[WalkStep]:
        """All steps; the first step, listed when the source was opened, is reused once."""
        first_step, self._first_step = self._first_step, None
        if first_step is None:
            yield from walk_bucket(self._location, WalkPosition(self._prefix))
            return
        yield first_step
        yield from walk_bucket(self._location, first_step.behind)

    def _listing_mark(self, position: WalkPosition) -> ListingMark:
        listing = self.listing
        return {
            "position": position.to_json(),
            "skipped": dict(listing.skipped),
            "outputs": sorted(self._counted_outputs),
            "lost": listing.lost,
            "unreadable": dict(listing.unreadable),
        }

    def _split_off_glob(self, key: str) -> str:
        parts = key.split("/")
        glob_start = next((index for index, part in enumerate(parts) if _MAGIC & set(part)), None)
        if glob_start is not None:
            self._pattern = GlobPattern([os.fsencode(part) for part in parts[glob_start:]])
            return "".join(f"{part}/" for part in parts[:glob_start])
        if not key or key.endswith("/"):
            return key
        try:
            self._bucket.head_object(key)
        except FileNotFoundError:
            return f"{key}/"
        return key

    def _listed_tables(self, steps: Iterator[WalkStep]) -> Iterator[tuple[pa.Table, WalkPosition | None]]:
        """Images and the position after them; None between the tables of one step's containers."""
        for objects, are_containers, position in self._wanted_objects(steps):
            if not are_containers:
                chunk = self._filters.filter_chunk(object_table(self._root_uri, objects), self.listing)
                for column in self.extra_columns:
                    chunk = chunk.append_column(column, pa.nulls(chunk.num_rows, column.type))
                yield chunk, position
                continue
            table = None
            for next_table in self._container_tables(
                [container for container in objects.to_pylist() if self._is_new_container(container)]
            ):
                if table is not None:
                    yield table, None
                table = next_table
            if table is not None:
                yield table, position

    def _is_new_container(self, container: Mapping[str, Any]) -> bool:
        reason = self._filters.skip_reason(None, to_nanoseconds(container["last_modified"]))
        if reason is not None:
            self.listing.skipped[reason] += 1
        return reason is None

    def _container_tables(self, containers: Sequence[Mapping[str, Any]]) -> Iterator[pa.Table]:
        """The images of containers, in their order; several containers are read concurrently."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="list") as pool:
            for start in range(0, len(containers), _AT_ONCE):
                for tables, listing in pool.map(self._list_container, containers[start : start + _AT_ONCE]):
                    self.listing.merge_report(listing)
                    yield from tables

    def _list_container(self, container: Mapping[str, Any]) -> tuple[list[pa.Table], ListingReport]:
        listing = ListingReport()
        modified = to_nanoseconds(container["last_modified"])
        return list(self._containers.entry_tables(self._location_of_key(container["key"]), modified, listing)), listing

    def _decide_extra_columns(self) -> pa.Schema:
        """The extra columns, decided by the first image or the container that holds it."""
        is_empty = True
        for objects, are_containers, _ in (
            self._wanted_objects(self._note_unlisted()) if self._containers.extra_columns is None else ()
        ):
            for item in objects.to_pylist():
                is_empty, key = False, item["key"]
                size = None if are_containers else item["size"]
                if self._filters.skip_reason(size, to_nanoseconds(item["last_modified"])) is not None:
                    continue
                if self._containers.decide_extra_columns(self._location_of_key(key) if are_containers else None):
                    break
            if self._containers.extra_columns is not None:
                break
        if self._containers.extra_columns is None:
            if is_empty and not self.listing.skipped:
                raise SourceError(
                    f"{self._location}: no such object and no objects below it; check --source or source.uri"
                )
            self._containers.decide_extra_columns(None)
        self.listing.clear_report()
        assert self._containers.extra_columns is not None, "plain images also decide"
        return self._containers.extra_columns

    def _note_unlisted(self) -> Iterator[WalkStep]:
        for step in walk_bucket(self._location, WalkPosition(self._prefix), folders_ahead=0):
            if self._first_step is None:
                self._first_step = step
            yield step

    def _wanted_objects(self, steps: Iterator[WalkStep]) -> Iterator[tuple[pa.Table, bool, WalkPosition]]:
        """Wanted objects, whether all of them are containers, and the position after them; never mixed in one table."""
        for step in steps:
            keys = step.objects["key"].to_pylist()
            is_container = [self._containers.is_container(os.fsencode(key)) for key in keys]
            for start, end in _equal_runs(is_container):
                is_wanted = pa.array(
                    [self._is_wanted_key(key, is_container=is_container[start]) for key in keys[start:end]], pa.bool_()
                )
                position = step.behind if end == len(keys) else replace(step.within, after=keys[end - 1])
                objects = step.objects.slice(start, end - start).filter(is_wanted)
                yield pa.Table.from_batches([objects]), is_container[start], position

    def _is_wanted_key(self, key: str, *, is_container: bool) -> bool:
        relative_key = key.removeprefix(self._prefix)
        if key.endswith("/") or relative_key.startswith(".") or "/." in relative_key:
            return False
        if self._pattern is not None and not self._matches_glob(relative_key.split("/")):
            return False
        may_be_written = is_container or any(f"/{name}/" in f"/{relative_key}" for name in (STATE, REPORT))
        if may_be_written and (output_folder := self._output_around_key(key)) is not None:
            if output_folder not in self._counted_outputs:
                self._counted_outputs.add(output_folder)
                self.listing.skipped[OUTPUT] += 1
            return False
        name = os.fsencode(key.rpartition("/")[2])
        if not is_container and not self._suffixes.is_image(name):
            self.listing.skipped[skipped_kind(name)] += 1
            return False
        if self._filters.exclude and self._filters.is_excluded(os.fsencode(key.removeprefix(self._top_folder))):
            self.listing.skipped[EXCLUDED] += 1
            return False
        return True

    def _output_around_key(self, key: str) -> str | None:
        """The output folder that an object belongs to, or None."""
        output_parts = output_around(key.split("/")[:-1], self._is_output_folder)
        return None if output_parts is None else "".join(f"{part}/" for part in output_parts)

    def _is_output_folder(self, parts: Sequence[str]) -> bool:
        folder = "".join(f"{part}/" for part in parts)
        if folder not in self._outputs:
            first_page = next(iter(self._bucket.list_objects(f"{folder}{STATE}/")), None)
            self._outputs[folder] = first_page is not None and first_page.objects.num_rows > 0
        return self._outputs[folder]

    def _matches_glob(self, parts: Sequence[str]) -> bool:
        assert self._pattern is not None, "only called with a glob"
        states = self._pattern.start
        for folder in parts[:-1]:
            states = self._pattern.enter_folder(states, os.fsencode(folder))
        return self._pattern.matches_file(states, os.fsencode(parts[-1]))

    def _location_of_key(self, key: str) -> bytes:
        return os.fsencode(self._root_uri + key)


def _equal_runs(kinds: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Start and end of each run of equal neighbours."""
    start = 0
    for end in range(1, len(kinds) + 1):
        if end == len(kinds) or kinds[end] != kinds[start]:
            yield start, end
            start = end
