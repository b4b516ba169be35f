"""A prefix of a bucket from its first object to its last, by several requests at once; it can be gone on with.

The order is that of the service for what lies directly below the prefix, and then for each folder in turn. A prefix
that holds nothing but one folder counts as that folder.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import try_call
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.listing import SCHEMA, ListingPage
from cvbatch.storage.location import Location

_AT_ONCE: Final = 16
"""Folders that are listed at once."""
_PAGES_AHEAD: Final = 4
_FOLDERS_AHEAD: Final = 4 * _AT_ONCE


@dataclass(frozen=True, slots=True)
class WalkPosition:
    """Where a walk stands: what comes next follows from this alone, in any process.

    It rests on nothing but that a service goes on after a key that it has listed itself.
    """

    prefix: str
    """Whose level is walked, or a single object."""
    after: str | None = None
    """The last key that was listed."""
    below: bool = False
    """Whether the level itself is done, so that its folders are next."""
    folders: Sequence[str] = ()
    """Those that the level has shown so far; it grows while the level is listed."""
    start: int = 0
    """The first of them that is not done."""
    end: int = 0
    """How many it has shown up to here."""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        left = list(self.folders[self.start : self.end])
        return {"prefix": self.prefix, "after": self.after, "below": self.below, "folders": left}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> WalkPosition:
        """The inverse of `to_json`."""
        folders = data["folders"]
        return WalkPosition(data["prefix"], data["after"], data["below"], folders, 0, len(folders))


@dataclass(frozen=True, slots=True)
class WalkStep:
    """Some objects of a walk."""

    objects: pa.RecordBatch
    """Of `listing.SCHEMA`."""
    within: WalkPosition
    """With the key of one of them as its `after`, the position behind that one."""
    behind: WalkPosition
    """The position behind all of them."""


def walk_bucket(place: Location, start: WalkPosition, *, folders_ahead: int = _FOLDERS_AHEAD) -> Iterator[WalkStep]:
    """List a prefix.

    Args:
        place: Names the bucket.
        start: Where to begin.
        folders_ahead: How many folders to list before they are taken, at the same time; 0 for none.
    """
    if start.prefix and not start.prefix.endswith("/"):
        yield from _walk_single_listing(place, start)
        return
    below = start if start.below else (yield from _walk_by_level(place, start))
    listers = (
        _PrefixLister(place, folder, below.after if at == below.start else None)
        for at, folder in enumerate(below.folders[below.start : below.end], below.start)
    )
    with contextlib.closing(_interleave_in_order(listers, folders_ahead)) as folders:
        for at, pages in enumerate(folders, below.start):
            here = replace(below, start=at, after=None)
            for page in pages:
                if page.objects.num_rows:
                    behind = replace(here, after=page.objects["key"][-1].as_py())
                    yield WalkStep(page.objects, here, replace(here, start=at + 1) if page.last_key else behind)


def _walk_single_listing(place: Location, start: WalkPosition) -> Iterator[WalkStep]:
    if start.after is not None:
        return
    head = open_bucket(place).head_object(start.prefix)
    fact = {"key": start.prefix, "size": head.size, "etag": head.etag, "last_modified": head.last_modified}
    objects = pa.RecordBatch.from_pylist([fact], SCHEMA)
    yield WalkStep(objects, start, replace(start, after=start.prefix))


def _walk_by_level(place: Location, start: WalkPosition) -> Generator[WalkStep, None, WalkPosition]:
    """The objects of one level; returns where its folders begin."""
    bucket, here, empty = open_bucket(place), start, start.after is None
    while True:
        folders, known = list(here.folders), set(here.folders)
        for page in bucket.list_objects(here.prefix, after=here.after, one_level=True):
            folders += [folder for folder in page.folders if folder not in known]
            within = replace(here, folders=folders, end=len(folders))
            below = replace(within, below=True, after=None)
            if page.objects.num_rows:
                empty = False
                behind = replace(within, after=page.objects["key"][-1].as_py())
                yield WalkStep(page.objects, within, below if page.last_key else behind)
        if len(folders) != 1 or not empty:
            return replace(here, below=True, after=None, folders=folders, end=len(folders))
        here = WalkPosition(folders[0])


class _PrefixLister:
    """One folder, listed a few pages ahead.

    Args:
        place: Its bucket.
        prefix: Ends with a slash.
        after: Go on after this key.
    """

    def __init__(self, place: Location, prefix: str, after: str | None) -> None:
        self._bucket, self._prefix, self._after = open_bucket(place), prefix, after
        self._pages: queue.Queue[ListingPage | Exception | None] = queue.Queue(_PAGES_AHEAD)
        self.given_up = threading.Event()

    def iter_direct(self) -> Iterator[ListingPage]:
        """Its pages, each when it is taken."""
        return self._bucket.list_objects(self._prefix, after=self._after)

    def start_listing(self) -> None:
        failed = try_call(self._list_in_thread)
        self._put_page(failed)

    def iter_pages(self) -> Iterator[ListingPage]:
        """Its pages, while it runs in another thread."""
        while (page := self._pages.get()) is not None:
            if isinstance(page, Exception):
                raise page
            yield page

    def _list_in_thread(self) -> None:
        for page in self.iter_direct():
            self._put_page(page)
            if self.given_up.is_set():
                return

    def _put_page(self, page: ListingPage | Exception | None) -> None:
        while not self.given_up.is_set():
            try:
                self._pages.put(page, timeout=0.1)
            except queue.Full:
                continue
            return


def _interleave_in_order(listers: Iterator[_PrefixLister], ahead: int) -> Generator[Iterator[ListingPage]]:
    """The pages of each folder in turn; so many folders are under way meanwhile."""
    if not ahead:
        yield from (lister.iter_direct() for lister in listers)
        return
    under_way = deque[_PrefixLister]()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="list") as pool:
        try:
            while True:
                # the pool begins them in this order, so the one that is waited for has always begun
                while len(under_way) < ahead and (lister := next(listers, None)) is not None:
                    under_way.append(lister)
                    pool.submit(lister.start_listing)
                if not under_way:
                    return
                yield under_way[0].iter_pages()
                under_way.popleft()
        finally:
            for lister in under_way:
                lister.given_up.set()
