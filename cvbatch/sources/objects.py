"""Prefixes and globs of a bucket, listed by several requests at once, and the containers among the objects."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import SourceError, caught
from cvbatch.sources.containers import Containers
from cvbatch.sources.entries import CHUNK_ROWS, Listing, object_table, regrouped
from cvbatch.sources.filters import EXCLUDED, NO_FILTERS, Filters, nanoseconds
from cvbatch.sources.patterns import Pattern
from cvbatch.sources.suffixes import Suffixes, counted_as
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.listing import SCHEMA
from cvbatch.storage.places import Place

_MAGIC: Final = frozenset("*?[")
_AT_ONCE: Final = 16
"""Prefixes that are listed at once."""
_PAGES_AHEAD: Final = 4


class ObjectSource:
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

    numbered = False

    def __init__(self, place: Place, suffixes: Suffixes, containers: Containers, filters: Filters = NO_FILTERS) -> None:
        self.listing = Listing()
        self._filters = filters
        self._place, self._suffixes, self._containers = place, suffixes, containers
        self._bucket = open_bucket(place)
        self._root = f"{place.scheme}://{place.bucket}/"
        self._pattern: Pattern | None = None
        self._prefix = self._start(place.key)
        # what a single object is excluded by is its name
        self._top = self._prefix[: self._prefix.rfind("/") + 1]
        self.carried = self._decided()

    def chunks(self) -> Iterator[pa.Table]:
        """Yield the images, folder by folder in the order of their keys, objects before what lies below."""
        self.listing.clear()
        return regrouped(self._pieces(), CHUNK_ROWS)

    def _start(self, key: str) -> str:
        parts = key.split("/")
        magic = next((at for at, part in enumerate(parts) if _MAGIC & set(part)), None)
        if magic is not None:
            self._pattern = Pattern([os.fsencode(part) for part in parts[magic:]])
            return "".join(f"{part}/" for part in parts[:magic])
        if not key or key.endswith("/"):
            return key
        try:
            self._bucket.head(key)
        except FileNotFoundError:
            return f"{key}/"
        return key

    def _pieces(self) -> Iterator[pa.Table]:
        for page in self._wanted():
            holds = pa.array([self._containers.holds(os.fsencode(key)) for key in page["key"].to_pylist()], pa.bool_())
            plain = page.filter(pc.invert(holds))
            if plain.num_rows:
                chunk = self._filters.kept(object_table(self._root, plain), self.listing)
                for column in self.carried:
                    chunk = chunk.append_column(column, pa.nulls(chunk.num_rows, column.type))
                yield chunk
            yield from self._members([each for each in page.filter(holds).to_pylist() if self._is_new(each)])

    def _is_new(self, container: Mapping[str, Any]) -> bool:
        why = self._filters.refuse(None, nanoseconds(container["last_modified"]))
        if why is not None:
            self.listing.skipped[why] += 1
        return why is None

    def _members(self, containers: Sequence[Mapping[str, Any]]) -> Iterator[pa.Table]:
        """The images of some containers, in their order; several are read at once."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="list") as pool:
            for start in range(0, len(containers), _AT_ONCE):
                for pieces, listing in pool.map(self._listed, containers[start : start + _AT_ONCE]):
                    self.listing.add(listing)
                    yield from pieces

    def _listed(self, container: Mapping[str, Any]) -> tuple[list[pa.Table], Listing]:
        listing = Listing()
        modified = nanoseconds(container["last_modified"])
        return list(self._containers.pieces(self._location(container["key"]), modified, listing)), listing

    def _decided(self) -> pa.Schema:
        """The columns that come along: the first image decides, or the container that it lies in."""
        empty = True
        for page in self._wanted() if self._containers.carried is None else ():
            for found in page.to_pylist():
                empty, key = False, found["key"]
                holds = self._containers.holds(os.fsencode(key))
                size = None if holds else found["size"]
                if self._filters.refuse(size, nanoseconds(found["last_modified"])) is not None:
                    continue
                if self._containers.decide(self._location(key) if holds else None):
                    break
            if self._containers.carried is not None:
                break
        if self._containers.carried is None:
            if empty and not self.listing.skipped:
                raise SourceError(f"{self._place}: no such object, and nothing below it; check source.uri")
            self._containers.decide(None)
        self.listing.clear()
        assert self._containers.carried is not None, "plain images decide, too"
        return self._containers.carried

    def _wanted(self) -> Iterator[pa.Table]:
        for page in self._pages():
            keys = page["key"].to_pylist()
            taken = [self._takes(key) for key in keys]
            yield pa.Table.from_batches([page]).filter(pa.array(taken, pa.bool_()))

    def _takes(self, key: str) -> bool:
        parts = key.removeprefix(self._prefix).split("/")
        if key.endswith("/") or any(part.startswith(".") for part in parts):
            return False
        if self._pattern is not None and not self._matches(parts):
            return False
        name = os.fsencode(key.rpartition("/")[2])
        if not self._suffixes.take(name) and not self._containers.holds(name):
            self.listing.skipped[counted_as(name)] += 1
            return False
        if self._filters.exclude and self._filters.excludes(os.fsencode(key.removeprefix(self._top))):
            self.listing.skipped[EXCLUDED] += 1
            return False
        return True

    def _matches(self, parts: Sequence[str]) -> bool:
        assert self._pattern is not None, "only asked where there is one"
        states = self._pattern.start
        for folder in parts[:-1]:
            states = self._pattern.below(states, os.fsencode(folder))
        return self._pattern.takes(states, os.fsencode(parts[-1]))

    def _pages(self) -> Iterator[pa.RecordBatch]:
        """All objects below the prefix: its folders are listed at the same time, and yielded in their order."""
        if self._prefix and not self._prefix.endswith("/"):
            head = self._bucket.head(self._prefix)
            yield pa.RecordBatch.from_pylist(
                [{"key": self._prefix, "size": head.size, "etag": head.etag, "last_modified": head.last_modified}],
                SCHEMA,
            )
            return
        objects, folders = self._bucket.level(self._prefix)
        while len(folders) == 1 and not objects.num_rows:
            objects, folders = self._bucket.level(folders[0])
        yield from objects.to_batches()
        yield from _in_order([_Lister(self._place, folder) for folder in folders])

    def _location(self, key: str) -> bytes:
        return os.fsencode(self._root + key)


class _Lister:
    """One prefix, listed a few pages ahead.

    Args:
        place: Its bucket.
        prefix: Ends with a slash.
    """

    def __init__(self, place: Place, prefix: str) -> None:
        self._bucket, self._prefix = open_bucket(place), prefix
        self._pages: queue.Queue[pa.RecordBatch | Exception | None] = queue.Queue(_PAGES_AHEAD)
        self.given_up = threading.Event()

    def run(self) -> None:
        failed = caught(self._run)
        self._put(failed)

    def pages(self) -> Iterator[pa.RecordBatch]:
        while (page := self._pages.get()) is not None:
            if isinstance(page, Exception):
                raise page
            yield page

    def _run(self) -> None:
        for page in self._bucket.list(self._prefix):
            self._put(page)
            if self.given_up.is_set():
                return

    def _put(self, page: pa.RecordBatch | Exception | None) -> None:
        while not self.given_up.is_set():
            try:
                self._pages.put(page, timeout=0.1)
            except queue.Full:
                continue
            return


def _in_order(listers: Sequence[_Lister]) -> Iterator[pa.RecordBatch]:
    """The pages of each in turn; those that come next are under way meanwhile."""
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="list") as pool:
        try:
            # the pool begins them in this order, so the one that is waited for has always begun
            for lister in listers:
                pool.submit(lister.run)
            for lister in listers:
                yield from lister.pages()
        finally:
            for lister in listers:
                lister.given_up.set()
