"""The encoded bytes of the images of a unit: whole files, members of archives, rows of tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Final

import pyarrow as pa

from cvbatch.errors import ImageError, RowError, SourceError, UnlistedError, attempt
from cvbatch.schema import ETAG, IMAGE_BYTES
from cvbatch.sources.archives.members import REFUSALS
from cvbatch.sources.archives.reading import PackedTar, PlainTar, Zip
from cvbatch.sources.archives.streams import TAR, TAR_GZIP, TAR_ZSTD
from cvbatch.sources.archives.zips import DEFLATED, STORED
from cvbatch.sources.entries import exact_paths, spans
from cvbatch.sources.fetch.blob import OpenedOnce
from cvbatch.sources.fetch.container_reader import Reader, Wanted
from cvbatch.sources.fetch.local import read_local, too_large
from cvbatch.sources.fetch.prefetch import DENIED, Ahead, is_remote
from cvbatch.sources.fetch.url_policy import SECRET_IN_URI, SECRET_MESSAGE, is_http
from cvbatch.sources.tables.arrow import ARROW, RANGE
from cvbatch.sources.tables.parquet import PARQUET
from cvbatch.sources.tables.reading import Ranges, Rows
from cvbatch.storage.fetch_options import DISK, Reach

Changed = Callable[[int], None]
Fetch = Callable[[], bytes]
"""Returns the encoded bytes of one image; raises `ImageError`, or what the system reports, for that image alone."""


_Key = tuple[bytes, type[Reader]]

_READERS: Final[dict[str, type[Reader]]] = {
    TAR: PlainTar,
    TAR_GZIP: PackedTar,
    TAR_ZSTD: PackedTar,
    STORED: Zip,
    DEFLATED: Zip,
    PARQUET: Rows,
    ARROW: Rows,
    RANGE: Ranges,
}
"""Who reads a span, by its `how`."""
_REFUSALS: Final = {**REFUSALS, SECRET_IN_URI: SECRET_MESSAGE}


def fetches(rows: pa.Table, reach: Reach = DISK, changed: Changed = lambda at: None) -> list[Fetch]:
    """Say for each row how its bytes are fetched; what is not on a disk is under way from then on.

    Containers are opened once for all these rows, and those that can only be read from their beginning are read once.

    Args:
        rows: Rows of the plan.
        reach: How to get there, and what is too large.
        changed: Told of the positions of objects that are other versions than were planned.
    """
    ahead = Ahead(reach)
    wanted, readers = dict[_Key, list[Wanted]](), dict[_Key, Reader]()
    found = list[Fetch]()
    etags = rows[ETAG].to_pylist() if ETAG in rows.column_names else [None] * rows.num_rows
    lengths = rows[IMAGE_BYTES].to_pylist()
    for at, (path, span, length, etag) in enumerate(zip(exact_paths(rows), spans(rows), lengths, etags, strict=True)):
        if span is None:
            if is_remote(path) or is_http(path):
                found.append(ahead.fetch(path, etag, partial(changed, at)))
            else:
                found.append(partial(read_local, path, max_bytes=reach.max_bytes))
        elif span.refused is not None:
            found.append(partial(_refuse, span.refused))
        else:
            # its reader is made when all that is wanted of the container is known
            together = wanted.setdefault((path, _READERS[span.how]), [])
            found.append(partial(_read, readers, (path, _READERS[span.how]), len(together), reach.max_bytes))
            together.append((span, length))
    readers.update({key: key[1](OpenedOnce(key[0], reach.storage), together) for key, together in wanted.items()})
    return found


def check_access(samples: Iterable[pa.Table], reach: Reach) -> None:
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
            (read,) = fetches(rows.slice(at, 1), reach)
            answer = attempt("fetch", read)
            if not isinstance(answer, RowError) or answer.type != DENIED:
                return
            denied.append(answer.message)
    if denied:
        raise SourceError(f"{denied[0]}; none of {len(denied)} images tried may be read")


def _read(readers: Mapping[_Key, Reader], key: _Key, at: int, max_bytes: int | None) -> bytes:
    data = readers[key].read(at)
    if max_bytes is not None and len(data) > max_bytes:
        raise too_large(len(data), max_bytes)
    return data


def _refuse(why: str) -> bytes:
    kind, colon, message = why.partition(": ")
    if colon:
        raise UnlistedError(kind, message)
    raise ImageError(kind, _REFUSALS[kind])
