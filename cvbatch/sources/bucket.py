"""Prefixes and globs of a bucket, listed by several requests at once, and the containers among the objects."""

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
from cvbatch.sources.output_folders import OUTPUT, STATE, output_around, output_source_advice
from cvbatch.sources.suffixes import ImageSuffixes, skipped_kind
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location

_MAGIC: Final = frozenset("*?[")
_AT_ONCE: Final = 16
"""Containers that are listed at once."""
_CHUNK_SECONDS: Final = 30.0
"""A chunk ends after so long, too: what was listed for it need not be listed again after a kill."""


class BucketSource:
    """Images below a prefix, matched by a glob, or one object; a container stands for the images in it.

    Args:
        place: A bucket and a prefix, key or glob. A prefix counts as a folder: `photos` does not take `photos2/a.jpg`.
        suffixes: What is an image.
        containers: How archives and tables are opened.
        filters: What is left out.

    Raises:
        SourceError: If there is nothing, or its first container has columns that cannot come along.
        StorageError: If the bucket cannot be listed.
    """

    positional = False

    def __init__(
        self, place: Location, suffixes: ImageSuffixes, containers: ContainerOpener, filters: FileFilters = NO_FILTERS
    ) -> None:
        self.listing = ListingReport()
        self._filters = filters
        self._place, self._suffixes, self._containers = place, suffixes, containers
        self._bucket = open_bucket(place)
        self._root = f"{place.scheme}://{place.bucket}/"
        self._pattern: GlobPattern | None = None
        self._outputs = dict[str, bool]()
        """Folders that could be outputs, and whether they are."""
        self._counted = set[str]()
        self._prefix = self._resume_position(place.key)
        if (output := self._output_around_key(self._prefix)) is not None:
            raise SourceError(output_source_advice(str(place), f"{self._root}{output}"))
        # what a single object is excluded by is its name
        self._top = self._prefix[: self._prefix.rfind("/") + 1]
        self._first: WalkStep | None = None
        self.extra_columns = self._decide_extra_columns()

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield the images, folder by folder in the order of their keys, objects before what lies below."""
        return (chunk for chunk, _ in self.iter_marked_chunks())

    def iter_marked_chunks(self, mark: ListingMark | None = None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """Yield the images, each chunk with what a later listing can go on from; None where it cannot, or needs not.

        Args:
            mark: Go on behind that chunk, which may have been another process's.
        """
        self.listing.clear_report()
        self._counted.clear()
        steps = self._restart_listing()
        if mark is not None:
            self._counted.update(mark.get("outputs", ()))
            self.listing.lost = mark.get("lost", 0)
            self.listing.skipped.update(mark["skipped"])
            self.listing.unreadable.update(mark["unreadable"])
            steps = walk_bucket(self._place, WalkPosition.from_json(mark["position"]))
        waiting, rows, began = list[pa.Table](), 0, time.monotonic()
        for piece, position in self._listed_tables(steps):
            waiting.append(piece)
            rows += piece.num_rows
            late = time.monotonic() - began > _CHUNK_SECONDS
            if rows >= CHUNK_ROWS.current_value or (rows and position is not None and late):
                yield (
                    pa.concat_tables(waiting).combine_chunks(),
                    None if position is None else self._listing_mark(position),
                )
                waiting, rows, began = [], 0, time.monotonic()
        if rows:
            yield pa.concat_tables(waiting).combine_chunks(), None

    def _restart_listing(self) -> Iterator[WalkStep]:
        """All steps; what opening the source has listed is used once and not asked for again."""
        first, self._first = self._first, None
        if first is None:
            yield from walk_bucket(self._place, WalkPosition(self._prefix))
            return
        yield first
        yield from walk_bucket(self._place, first.behind)

    def _listing_mark(self, position: WalkPosition) -> ListingMark:
        listing = self.listing
        return {
            "position": position.to_json(),
            "skipped": dict(listing.skipped),
            "outputs": sorted(self._counted),
            "lost": listing.lost,
            "unreadable": dict(listing.unreadable),
        }

    def _resume_position(self, key: str) -> str:
        parts = key.split("/")
        magic = next((at for at, part in enumerate(parts) if _MAGIC & set(part)), None)
        if magic is not None:
            self._pattern = GlobPattern([os.fsencode(part) for part in parts[magic:]])
            return "".join(f"{part}/" for part in parts[:magic])
        if not key or key.endswith("/"):
            return key
        try:
            self._bucket.head_object(key)
        except FileNotFoundError:
            return f"{key}/"
        return key

    def _listed_tables(self, steps: Iterator[WalkStep]) -> Iterator[tuple[pa.Table, WalkPosition | None]]:
        """Images, and the position behind them; None in the middle of containers."""
        for objects, holds, position in self._wanted_objects(steps):
            if not holds:
                chunk = self._filters.filter_chunk(object_table(self._root, objects), self.listing)
                for column in self.extra_columns:
                    chunk = chunk.append_column(column, pa.nulls(chunk.num_rows, column.type))
                yield chunk, position
                continue
            piece = None
            for following in self._container_tables(
                [each for each in objects.to_pylist() if self._is_new_container(each)]
            ):
                if piece is not None:
                    yield piece, None
                piece = following
            if piece is not None:
                yield piece, position

    def _is_new_container(self, container: Mapping[str, Any]) -> bool:
        why = self._filters.skip_reason(None, to_nanoseconds(container["last_modified"]))
        if why is not None:
            self.listing.skipped[why] += 1
        return why is None

    def _container_tables(self, containers: Sequence[Mapping[str, Any]]) -> Iterator[pa.Table]:
        """The images of some containers, in their order; several are read at once."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="list") as pool:
            for start in range(0, len(containers), _AT_ONCE):
                for pieces, listing in pool.map(self._list_container, containers[start : start + _AT_ONCE]):
                    self.listing.merge_report(listing)
                    yield from pieces

    def _list_container(self, container: Mapping[str, Any]) -> tuple[list[pa.Table], ListingReport]:
        listing = ListingReport()
        modified = to_nanoseconds(container["last_modified"])
        return list(self._containers.entry_tables(self._location_of_key(container["key"]), modified, listing)), listing

    def _decide_extra_columns(self) -> pa.Schema:
        """The columns that come along: the first image decides, or the container that it lies in."""
        empty = True
        for objects, holds, _ in (
            self._wanted_objects(self._note_unlisted()) if self._containers.extra_columns is None else ()
        ):
            for found in objects.to_pylist():
                empty, key = False, found["key"]
                size = None if holds else found["size"]
                if self._filters.skip_reason(size, to_nanoseconds(found["last_modified"])) is not None:
                    continue
                if self._containers.decide_extra_columns(self._location_of_key(key) if holds else None):
                    break
            if self._containers.extra_columns is not None:
                break
        if self._containers.extra_columns is None:
            if empty and not self.listing.skipped:
                raise SourceError(f"{self._place}: no such object, and nothing below it; check source.uri")
            self._containers.decide_extra_columns(None)
        self.listing.clear_report()
        assert self._containers.extra_columns is not None, "plain images decide, too"
        return self._containers.extra_columns

    def _note_unlisted(self) -> Iterator[WalkStep]:
        for step in walk_bucket(self._place, WalkPosition(self._prefix), folders_ahead=0):
            if self._first is None:
                self._first = step
            yield step

    def _wanted_objects(self, steps: Iterator[WalkStep]) -> Iterator[tuple[pa.Table, bool, WalkPosition]]:
        """Objects that are to be used, whether they are all containers or all not, and the position behind them."""
        for step in steps:
            keys = step.objects["key"].to_pylist()
            kinds = [self._containers.is_container(os.fsencode(key)) for key in keys]
            for low, high in _equal_runs(kinds):
                taken = pa.array([self._is_wanted_key(key, holds=kinds[low]) for key in keys[low:high]], pa.bool_())
                position = step.behind if high == len(keys) else replace(step.within, after=keys[high - 1])
                run = step.objects.slice(low, high - low).filter(taken)
                yield pa.Table.from_batches([run]), kinds[low], position

    def _is_wanted_key(self, key: str, *, holds: bool) -> bool:
        below = key.removeprefix(self._prefix)
        if key.endswith("/") or below.startswith(".") or "/." in below:
            return False
        if self._pattern is not None and not self._matches_glob(below.split("/")):
            return False
        if (holds or f"/{STATE}/" in f"/{below}") and (output := self._output_around_key(key)) is not None:
            if output not in self._counted:
                self._counted.add(output)
                self.listing.skipped[OUTPUT] += 1
            return False
        name = os.fsencode(key.rpartition("/")[2])
        if not holds and not self._suffixes.is_image(name):
            self.listing.skipped[skipped_kind(name)] += 1
            return False
        if self._filters.exclude and self._filters.is_excluded(os.fsencode(key.removeprefix(self._top))):
            self.listing.skipped[EXCLUDED] += 1
            return False
        return True

    def _output_around_key(self, key: str) -> str | None:
        """The output that an object was written to by a run, if it was."""
        output = output_around(key.split("/")[:-1], self._is_output_folder)
        return None if output is None else "".join(f"{part}/" for part in output)

    def _is_output_folder(self, parts: Sequence[str]) -> bool:
        folder = "".join(f"{part}/" for part in parts)
        if folder not in self._outputs:
            first = next(iter(self._bucket.list_objects(f"{folder}{STATE}/")), None)
            self._outputs[folder] = first is not None and first.objects.num_rows > 0
        return self._outputs[folder]

    def _matches_glob(self, parts: Sequence[str]) -> bool:
        assert self._pattern is not None, "only asked where there is one"
        states = self._pattern.start
        for folder in parts[:-1]:
            states = self._pattern.enter_folder(states, os.fsencode(folder))
        return self._pattern.matches_file(states, os.fsencode(parts[-1]))

    def _location_of_key(self, key: str) -> bytes:
        return os.fsencode(self._root + key)


def _equal_runs(kinds: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Where neighbours are of the same kind."""
    low = 0
    for high in range(1, len(kinds) + 1):
        if high == len(kinds) or kinds[high] != kinds[low]:
            yield low, high
            low = high
