"""A source whose files with several pages are several images: pages of TIFFs, frames of animations."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import LIST, RowError, capture_row_error
from cvbatch.images.byte_ranges import ByteRanges, HeldBytes
from cvbatch.images.paged_files import PageNumbers, find_pages
from cvbatch.schema import ETAG, IMAGE_BYTES, IMAGE_URI, MODIFIED, SPAN
from cvbatch.sources.entries import (
    CHUNK_ROWS,
    ImageSource,
    ListingMark,
    ListingReport,
    ResumableSource,
    exact_paths,
    identity_keys,
    regroup_tables,
    spans_of_entries,
)
from cvbatch.sources.fetch.blob import open_blob
from cvbatch.sources.fetch.plan_rows import ARCHIVED_HOWS, plan_fetches
from cvbatch.sources.fetch.url_policy import is_http
from cvbatch.sources.page_spans import expand_pages
from cvbatch.sources.suffixes import suffix_of
from cvbatch.storage.fetch_options import FetchOptions

_ONE_PAGE: Final = PageNumbers((1,))
_THREADS: Final = 32
"""Files that are looked into at once: most of the time of one in a bucket is waiting."""
_SLICE_ROWS: Final = 4096
_REMEMBERED: Final = 1 << 16
_ONE_PICTURE: Final = frozenset("jpg jpeg jpe jfif bmp jp2 mpo".split())  # noqa: SIM905 - reads as a table
"""Suffixes of files that are not looked into."""


class PagedSource:
    """Lists the pages of the files of another source, in its order.

    A file whose pages cannot be counted is one row that says so.

    Args:
        source: Lists the files.
        options: Options for fetching them.
        max_pages: A file with more pages is one error row.
    """

    def __init__(self, source: ImageSource, options: FetchOptions, max_pages: int) -> None:
        self._source, self._options, self._max_pages = source, options, max_pages
        self.extra_columns = source.extra_columns
        self.positional = source.positional
        self._own_report = ListingReport()
        self._remembered = OrderedDict[tuple[Any, ...], PageNumbers | RowError]()
        """Pages of the files that were looked into last, because the beginning of a source is listed several times."""

    @property
    def listing(self) -> ListingReport:
        """Report on the listing so far."""
        total = ListingReport()
        total.merge_report(self._source.listing)
        total.merge_report(self._own_report)
        return total

    def iter_chunks(self) -> Iterator[pa.Table]:
        """See `ImageSource`."""
        self._own_report.clear_report()
        tables = (table for chunk in self._source.iter_chunks() for table in self._expanded_tables(chunk))
        return regroup_tables(tables, CHUNK_ROWS.current_value)

    def iter_marked_chunks(self, mark: ListingMark | None = None) -> Iterator[tuple[pa.Table, ListingMark | None]]:
        """See `ResumableSource`; a source that cannot be resumed gives no marks."""
        if not isinstance(self._source, ResumableSource):
            yield from ((chunk, None) for chunk in self.iter_chunks())
            return
        self._own_report.clear_report()
        if mark is not None:
            self._own_report.unreadable.update(mark["unreadable"])
            self._own_report.lost = mark["lost"]
        for chunk, source_mark in self._source.iter_marked_chunks(None if mark is None else mark["files"]):
            last: pa.Table | None = None
            for table in regroup_tables(self._expanded_tables(chunk), CHUNK_ROWS.current_value):
                if last is not None:
                    yield last, None
                last = table
            own = {"unreadable": dict(self._own_report.unreadable), "lost": self._own_report.lost}
            if last is not None:
                yield last, None if source_mark is None else {"files": source_mark, **own}

    def _expanded_tables(self, chunk: pa.Table) -> Iterator[pa.Table]:
        for start in range(0, max(1, chunk.num_rows), _SLICE_ROWS):
            files, pages = self._judge_files(chunk.slice(start, _SLICE_ROWS))
            for low, high in _few_pages(pages):
                yield expand_pages(files.slice(low, high - low), pages[low:high])

    def _judge_files(self, files: pa.Table) -> tuple[pa.Table, list[PageNumbers]]:
        """Pages of each file; rows of those that cannot be counted get the reason."""
        wanted = _files_to_look_into(files)
        found, refused = [_ONE_PAGE] * files.num_rows, dict[int, str]()
        some_files = files.take(pa.array(wanted, pa.int64()))
        for position, uri, pages in zip(
            wanted, some_files[IMAGE_URI].to_pylist(), self._find_pages_of(some_files), strict=True
        ):
            if isinstance(pages, PageNumbers) and pages.problem is not None:
                self._own_report.unreadable[uri] = f"there may be more pages: {pages.problem}"
            if isinstance(pages, PageNumbers) and len(pages.numbers) > self._max_pages:
                message = (
                    f"more than {self._max_pages} pages; raise source.max_pages, or leave it out by source.exclude"
                )
                pages = RowError(LIST, "TooManyPages", message)
            if isinstance(pages, PageNumbers):
                found[position] = pages
                continue
            self._own_report.unreadable[uri] = pages.message
            self._own_report.lost += 1
            refused[position] = f"{pages.type}: {pages.message}"
        return _refuse_rows(files, refused), found

    def _find_pages_of(self, files: pa.Table) -> list[PageNumbers | RowError]:
        keys = [
            (key, *facts)
            for key, *facts in zip(
                identity_keys(files), *(files[name].to_pylist() for name in (IMAGE_BYTES, MODIFIED, ETAG)), strict=True
            )
        ]
        is_new = [key not in self._remembered for key in keys]
        new_files = files.filter(pa.array(is_new, pa.bool_()))
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="pages") as pool:
            looks = (partial(self._look_into, open_file) for open_file in _plan_openings(new_files, self._options))
            results = pool.map(lambda look: capture_row_error(LIST, look), looks)
            found = {key: self._remembered[key] for key, new in zip(keys, is_new, strict=True) if not new}
            found |= dict(zip((key for key, new in zip(keys, is_new, strict=True) if new), results, strict=True))
        self._remembered.update((key, pages) for key, pages in found.items() if isinstance(pages, PageNumbers))
        while len(self._remembered) > _REMEMBERED:
            self._remembered.popitem(last=False)
        return [found[key] for key in keys]

    def _look_into(self, open_file: Callable[[], ByteRanges]) -> PageNumbers:
        return find_pages(open_file(), self._max_pages)


def _few_pages(pages: Sequence[PageNumbers]) -> Iterator[tuple[int, int]]:
    """Split files so that each part has about as many pages as a chunk has rows, and at least one file."""
    low = count = 0
    for position, found in enumerate(pages):
        if count and count + len(found.numbers) > CHUNK_ROWS.current_value:
            yield low, position
            low, count = position, 0
        count += len(found.numbers)
    yield low, len(pages)


def _files_to_look_into(files: pa.Table) -> list[int]:
    """Positions of files and members of archives that may have several pages by their names."""
    paths, uris = exact_paths(files), files[IMAGE_URI].to_pylist()
    wanted = []
    for position, (path, uri, span) in enumerate(zip(paths, uris, spans_of_entries(files), strict=True)):
        if span is None:
            name = path.partition(b"?")[0].partition(b"#")[0] if is_http(path) else path
        elif span.refused is None and span.how in ARCHIVED_HOWS:
            name = uri.encode()
        else:
            continue
        if suffix_of(name) not in _ONE_PICTURE:
            wanted.append(position)
    return wanted


def _plan_openings(files: pa.Table, options: FetchOptions) -> list[Callable[[], ByteRanges]]:
    """A function for each file that opens it; files on disks and in buckets are read in part."""
    openings = list[Callable[[], ByteRanges] | None]()
    for path, span in zip(exact_paths(files), spans_of_entries(files), strict=True):
        is_whole = span is None and not is_http(path)
        openings.append(partial(open_blob, path, options.storage) if is_whole else None)
    others = files.filter(pa.array([opening is None for opening in openings], pa.bool_()))
    fetches = iter(plan_fetches(others, options))
    return [partial(_fetch_whole, next(fetches)) if opening is None else opening for opening in openings]


def _fetch_whole(fetch: Callable[[], bytes]) -> ByteRanges:
    return HeldBytes(fetch())


def _refuse_rows(files: pa.Table, refused: dict[int, str]) -> pa.Table:
    """Give some rows a span that is never read, with the reason."""
    if not refused:
        return files
    spans = files[SPAN].to_pylist()
    for position, reason in refused.items():
        spans[position] = {"how": "", "refused": reason}
    index = files.schema.get_field_index(SPAN)
    return files.set_column(index, files.schema.field(index), pa.array(spans, files.schema.field(index).type))
