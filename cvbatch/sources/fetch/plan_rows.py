"""The encoded bytes of the images of a unit: whole files, members of archives, rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import pyarrow as pa

from cvbatch.errors import ImageError, RowError, SourceError, UnlistedError, capture_row_error
from cvbatch.schema import ETAG, IMAGE_BYTES
from cvbatch.sources.archives.members import REFUSALS
from cvbatch.sources.archives.reading import PackedTarReader, PlainTarReader, ZipReader
from cvbatch.sources.archives.streams import TAR, TAR_GZIP, TAR_ZSTD
from cvbatch.sources.archives.zips import DEFLATED, STORED
from cvbatch.sources.entries import exact_paths, spans_of_entries
from cvbatch.sources.fetch.blob import LazyBlob
from cvbatch.sources.fetch.container_reader import ContainerReader, Wanted
from cvbatch.sources.fetch.local import read_local, too_many_bytes_error
from cvbatch.sources.fetch.prefetch import DENIED_TYPE, Prefetcher, is_remote
from cvbatch.sources.fetch.url_policy import SECRET_IN_URI, SECRET_MESSAGE, is_http
from cvbatch.sources.tables.arrow import ARROW, RANGE
from cvbatch.sources.tables.parquet import PARQUET
from cvbatch.sources.tables.reading import ByteRangeReader, RowGroupReader
from cvbatch.storage.fetch_options import LOCAL_FETCH, FetchOptions

Changed = Callable[[int], None]
Fetch = Callable[[], bytes]
"""Returns the encoded bytes of one image; raises `ImageError`, or what the system reports, for that image alone."""


_Key = tuple[bytes, type[ContainerReader]]

_READERS: Final[dict[str, type[ContainerReader]]] = {
    TAR: PlainTarReader,
    TAR_GZIP: PackedTarReader,
    TAR_ZSTD: PackedTarReader,
    STORED: ZipReader,
    DEFLATED: ZipReader,
    PARQUET: RowGroupReader,
    ARROW: RowGroupReader,
    RANGE: ByteRangeReader,
}
"""Who reads a span, by its `how`."""
_REFUSALS: Final = {**REFUSALS, SECRET_IN_URI: SECRET_MESSAGE}


def plan_fetches(rows: pa.Table, reach: FetchOptions = LOCAL_FETCH, changed: Changed = lambda at: None) -> list[Fetch]:
    """Say for each row how its bytes are fetched; what is not on a disk is under way from then on.

    Containers are opened once for all these rows, and those that can only be read from their beginning are read once.

    Args:
        rows: Rows of the plan.
        reach: How to get there, and what is too large.
        changed: Told of the positions of objects that are other versions than were planned.
    """
    ahead = Prefetcher(reach)
    wanted, readers = dict[_Key, list[Wanted]](), dict[_Key, ContainerReader]()
    found = list[Fetch]()
    etags = rows[ETAG].to_pylist() if ETAG in rows.column_names else [None] * rows.num_rows
    lengths = rows[IMAGE_BYTES].to_pylist()
    for at, (path, span, length, etag) in enumerate(
        zip(exact_paths(rows), spans_of_entries(rows), lengths, etags, strict=True)
    ):
        if span is None:
            if is_remote(path) or is_http(path):
                found.append(ahead.prefetch_image(path, etag, partial(changed, at)))
            else:
                found.append(partial(read_local, path, max_bytes=reach.max_bytes))
        elif span.refused is not None:
            found.append(partial(_refuse_row, span.refused))
        else:
            # its reader is made when all that is wanted of the container is known
            together = wanted.setdefault((path, _READERS[span.how]), [])
            found.append(
                partial(_read_from_container, readers, (path, _READERS[span.how]), len(together), reach.max_bytes)
            )
            together.append((span, length))
    readers.update({key: key[1](LazyBlob(key[0], reach.storage), together) for key, together in wanted.items()})
    return found


def check_source_access(samples: Iterable[pa.Table], reach: FetchOptions) -> None:
    """Refuse a source of which nothing may be read, before anything is started.

    Args:
        samples: Rows of the plan; the next ones are only taken if all before were refused.
        reach: How to get there.

    Raises:
        SourceError: If all of them are refused.
    """
    denied = list[str]()
    for rows in samples:
        for at in range(rows.num_rows):
            (read,) = plan_fetches(rows.slice(at, 1), reach)
            answer = capture_row_error("fetch", read)
            if not isinstance(answer, RowError) or answer.type != DENIED_TYPE:
                return
            denied.append(answer.message)
    if denied:
        raise SourceError(f"{denied[0]}; none of {len(denied)} images tried may be read")


def _read_from_container(readers: Mapping[_Key, ContainerReader], key: _Key, at: int, max_bytes: int | None) -> bytes:
    data = readers[key].read_image(at)
    if max_bytes is not None and len(data) > max_bytes:
        raise too_many_bytes_error(len(data), max_bytes)
    return data


def _refuse_row(why: str) -> bytes:
    kind, colon, message = why.partition(": ")
    if colon:
        raise UnlistedError(kind, message)
    raise ImageError(kind, _REFUSALS[kind])
