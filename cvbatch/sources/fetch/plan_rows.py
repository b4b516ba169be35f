"""Fetching of the encoded images of a unit: whole files, members of archives, rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import pyarrow as pa

from cvbatch.errors import ImageError, RowError, SourceError, UnlistedError, capture_row_error
from cvbatch.images.byte_ranges import ByteRanges, HeldBytes
from cvbatch.schema import ETAG, IMAGE_BYTES
from cvbatch.sources.archives.members import REFUSALS
from cvbatch.sources.archives.reading import PackedTarReader, PlainTarReader, ZipReader
from cvbatch.sources.archives.streams import TAR, TAR_GZIP, TAR_ZSTD
from cvbatch.sources.archives.zips import DEFLATED, STORED
from cvbatch.sources.entries import Span, exact_paths, spans_of_entries
from cvbatch.sources.fetch.blob import LazyBlob, open_blob
from cvbatch.sources.fetch.container_reader import ContainerReader, Wanted
from cvbatch.sources.fetch.local import read_local, too_many_bytes_error
from cvbatch.sources.fetch.page_reader import PageReader
from cvbatch.sources.fetch.prefetch import DENIED_TYPE, Prefetcher, is_remote
from cvbatch.sources.fetch.url_policy import SECRET_IN_URI, SECRET_MESSAGE, is_http
from cvbatch.sources.page_spans import split_page
from cvbatch.sources.tables.arrow import ARROW, RANGE
from cvbatch.sources.tables.parquet import PARQUET
from cvbatch.sources.tables.reading import ByteRangeReader, RowGroupReader
from cvbatch.storage.fetch_options import LOCAL_FETCH, FetchOptions

Changed = Callable[[int], None]
Fetch = Callable[[], bytes]
"""Returns the encoded bytes of one image; raises `ImageError` or an error of the system for that image only."""


_Key = tuple[bytes, type[ContainerReader]]

_ARCHIVE_READERS: Final[dict[str, type[ContainerReader]]] = {
    TAR: PlainTarReader,
    TAR_GZIP: PackedTarReader,
    TAR_ZSTD: PackedTarReader,
    STORED: ZipReader,
    DEFLATED: ZipReader,
}
ARCHIVED_HOWS: Final = frozenset(_ARCHIVE_READERS)
"""`how` of the spans of members of archives."""
_READERS: Final[dict[str, type[ContainerReader]]] = {
    **_ARCHIVE_READERS,
    PARQUET: RowGroupReader,
    ARROW: RowGroupReader,
    RANGE: ByteRangeReader,
}
"""Reader of a span, by its `how`."""
_REFUSALS: Final = {**REFUSALS, SECRET_IN_URI: SECRET_MESSAGE}


def plan_fetches(
    rows: pa.Table, options: FetchOptions = LOCAL_FETCH, changed: Changed = lambda position: None
) -> list[Fetch]:
    """Return a function for each row that fetches its bytes; remote images are prefetched from now on.

    Each container, and each file with pages, is opened once for all rows, and a compressed tar is read once.

    Args:
        rows: Rows of the plan.
        options: Options for fetching image bytes.
        changed: Called with the position of each object whose version differs from the planned one.
    """
    prefetcher = Prefetcher(options)
    wanted, readers = dict[_Key, list[Wanted]](), dict[_Key, ContainerReader]()
    fetches = list[Fetch]()
    etags = rows[ETAG].to_pylist() if ETAG in rows.column_names else [None] * rows.num_rows
    lengths = rows[IMAGE_BYTES].to_pylist()
    paged = dict[tuple[bytes, Span | None], PageReader]()

    def plan_file(position: int, path: bytes, span: Span | None) -> Fetch:
        if span is None:
            if is_remote(path) or is_http(path):
                return prefetcher.prefetch_image(path, etags[position], partial(changed, position))
            return partial(read_local, path, max_bytes=options.max_bytes)
        if span.refused is not None:
            return partial(_refuse_row, span.refused)
        # the reader is created below, when all requested images of the container are known
        requests = wanted.setdefault((path, _READERS[span.how]), [])
        requests.append((span, lengths[position]))
        return partial(_read_from_container, readers, (path, _READERS[span.how]), len(requests) - 1, options.max_bytes)

    for position, (path, span) in enumerate(zip(exact_paths(rows), spans_of_entries(rows), strict=True)):
        file_span, page = split_page(span)
        if page is None:
            fetches.append(plan_file(position, path, file_span))
            continue
        if (path, file_span) not in paged:
            is_blob = file_span is None and not is_http(path)
            fetch = None if is_blob else plan_file(position, path, file_span)
            paged[path, file_span] = PageReader(partial(_open_for_pages, path, fetch, options))
        paged[path, file_span].expect_page()
        fetches.append(partial(paged[path, file_span].read_page, page))
    readers.update({key: key[1](LazyBlob(key[0], options.storage), requests) for key, requests in wanted.items()})
    return fetches


def check_source_access(samples: Iterable[pa.Table], options: FetchOptions) -> None:
    """Refuse a source without read permission, before anything is started.

    Args:
        samples: Rows of the plan; the next table is only used if all previous rows were denied.
        options: Options for fetching image bytes.

    Raises:
        SourceError: If all of the rows are denied.
    """
    denied = list[str]()
    for rows in samples:
        for index in range(rows.num_rows):
            (fetch,) = plan_fetches(rows.slice(index, 1), options)
            result = capture_row_error("fetch", fetch)
            if not isinstance(result, RowError) or result.type != DENIED_TYPE:
                return
            denied.append(result.message)
    if denied:
        raise SourceError(f"{denied[0]}; none of the {len(denied)} images that were tried can be read")


def _read_from_container(
    readers: Mapping[_Key, ContainerReader], key: _Key, index: int, max_bytes: int | None
) -> bytes:
    data = readers[key].read_image(index)
    if max_bytes is not None and len(data) > max_bytes:
        raise too_many_bytes_error(len(data), max_bytes)
    return data


def _open_for_pages(path: bytes, fetch: Fetch | None, options: FetchOptions) -> ByteRanges:
    if fetch is not None:
        return HeldBytes(fetch())
    blob = open_blob(path, options.storage)
    # what counts is the file: a frame of it may have more bytes
    if options.max_bytes is not None and blob.byte_size() > options.max_bytes:
        raise too_many_bytes_error(blob.byte_size(), options.max_bytes)
    return blob


def _refuse_row(refusal: str) -> bytes:
    kind, colon, message = refusal.partition(": ")
    if colon:
        raise UnlistedError(kind, message)
    raise ImageError(kind, _REFUSALS[kind])
