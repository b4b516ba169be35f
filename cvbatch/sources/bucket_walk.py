"""Resumable listing of a bucket prefix by concurrent requests.

Objects directly below the prefix come first, in the order of the service, then the objects of each folder in turn. A
prefix that contains only one folder is treated as that folder.
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
"""Folders that are listed concurrently."""
_PAGES_AHEAD: Final = 4
_FOLDERS_AHEAD: Final = 4 * _AT_ONCE


@dataclass(frozen=True, slots=True)
class WalkPosition:
    """Position of a walk, from which any process can resume it.

    The only requirement is that the service can list the keys after a key that it returned.
    """

    prefix: str
    """Prefix whose level is walked, or the key of a single object."""
    after: str | None = None
    """The last key that was listed."""
    below: bool = False
    """Whether the level itself is done, so that its folders follow."""
    folders: Sequence[str] = ()
    """Folders listed at this level so far; grows while the level is listed."""
    start: int = 0
    """Index of the first folder that is not done."""
    end: int = 0
    """Number of folders listed up to this position."""

    def to_json(self) -> dict[str, Any]:
        """The position as plain data."""
        remaining_folders = list(self.folders[self.start : self.end])
        return {"prefix": self.prefix, "after": self.after, "below": self.below, "folders": remaining_folders}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> WalkPosition:
        """Inverse of `to_json`."""
        folders = data["folders"]
        return WalkPosition(data["prefix"], data["after"], data["below"], folders, 0, len(folders))


@dataclass(frozen=True, slots=True)
class WalkStep:
    """Consecutive objects of a walk."""

    objects: pa.RecordBatch
    """Of `listing.SCHEMA`."""
    within: WalkPosition
    """Set its `after` to the key of one of the objects to get the position after that object."""
    behind: WalkPosition
    """Position after all of the objects."""


def walk_bucket(location: Location, start: WalkPosition, *, folders_ahead: int = _FOLDERS_AHEAD) -> Iterator[WalkStep]:
    """List a prefix.

    Args:
        location: The bucket.
        start: Where to start.
        folders_ahead: Number of folders to list ahead, concurrently; 0 lists nothing ahead.
    """
    if start.prefix and not start.prefix.endswith("/"):
        yield from _walk_single_listing(location, start)
        return
    folder_position = start if start.below else (yield from _walk_by_level(location, start))
    listers = (
        _PrefixLister(location, folder, folder_position.after if index == folder_position.start else None)
        for index, folder in enumerate(
            folder_position.folders[folder_position.start : folder_position.end], folder_position.start
        )
    )
    with contextlib.closing(_interleave_in_order(listers, folders_ahead)) as page_iterators:
        for index, pages in enumerate(page_iterators, folder_position.start):
            folder_start = replace(folder_position, start=index, after=None)
            for page in pages:
                if page.objects.num_rows:
                    position_after = replace(folder_start, after=page.objects["key"][-1].as_py())
                    yield WalkStep(
                        page.objects,
                        folder_start,
                        replace(folder_start, start=index + 1) if page.last_key else position_after,
                    )


def _walk_single_listing(location: Location, start: WalkPosition) -> Iterator[WalkStep]:
    if start.after is not None:
        return
    head = open_bucket(location).head_object(start.prefix)
    row = {"key": start.prefix, "size": head.size, "etag": head.etag, "last_modified": head.last_modified}
    objects = pa.RecordBatch.from_pylist([row], SCHEMA)
    yield WalkStep(objects, start, replace(start, after=start.prefix))


def _walk_by_level(location: Location, start: WalkPosition) -> Generator[WalkStep, None, WalkPosition]:
    """Yield the objects of one level; return the position at which its folders start."""
    bucket, position, is_empty = open_bucket(location), start, start.after is None
    while True:
        folders, known = list(position.folders), set(position.folders)
        for page in bucket.list_objects(position.prefix, start_after=position.after, one_level=True):
            folders += [folder for folder in page.folders if folder not in known]
            within = replace(position, folders=folders, end=len(folders))
            folder_position = replace(within, below=True, after=None)
            if page.objects.num_rows:
                is_empty = False
                position_after = replace(within, after=page.objects["key"][-1].as_py())
                yield WalkStep(page.objects, within, folder_position if page.last_key else position_after)
        if len(folders) != 1 or not is_empty:
            return replace(position, below=True, after=None, folders=folders, end=len(folders))
        position = WalkPosition(folders[0])


class _PrefixLister:
    """Lists one folder, a few pages ahead.

    Args:
        location: The bucket.
        prefix: Prefix of the folder, with its trailing slash.
        after: List only keys after this one.
    """

    def __init__(self, location: Location, prefix: str, after: str | None) -> None:
        self._bucket, self._prefix, self._after = open_bucket(location), prefix, after
        self._pages: queue.Queue[ListingPage | Exception | None] = queue.Queue(_PAGES_AHEAD)
        self.cancelled = threading.Event()

    def iter_direct(self) -> Iterator[ListingPage]:
        """The pages, each requested when it is consumed."""
        return self._bucket.list_objects(self._prefix, start_after=self._after)

    def start_listing(self) -> None:
        error = try_call(self._list_in_thread)
        self._put_page(error)

    def iter_pages(self) -> Iterator[ListingPage]:
        """The pages, while `start_listing` runs in another thread."""
        while (page := self._pages.get()) is not None:
            if isinstance(page, Exception):
                raise page
            yield page

    def _list_in_thread(self) -> None:
        for page in self.iter_direct():
            self._put_page(page)
            if self.cancelled.is_set():
                return

    def _put_page(self, page: ListingPage | Exception | None) -> None:
        while not self.cancelled.is_set():
            try:
                self._pages.put(page, timeout=0.1)
            except queue.Full:
                continue
            return


def _interleave_in_order(listers: Iterator[_PrefixLister], ahead: int) -> Generator[Iterator[ListingPage]]:
    """Yield the pages of each folder in turn, while up to `ahead` folders are listed."""
    if not ahead:
        yield from (lister.iter_direct() for lister in listers)
        return
    active_listers = deque[_PrefixLister]()
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="list") as pool:
        try:
            while True:
                # the pool starts the listers in this order, so the first one has always started
                while len(active_listers) < ahead and (lister := next(listers, None)) is not None:
                    active_listers.append(lister)
                    pool.submit(lister.start_listing)
                if not active_listers:
                    return
                yield active_listers[0].iter_pages()
                active_listers.popleft()
        finally:
            for lister in active_listers:
                lister.cancelled.set()
