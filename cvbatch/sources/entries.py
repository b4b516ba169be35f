"""What a source yields: images in chunks, as columns."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

CHUNK_ROWS = 65_536

LOCATION = "_location"
MODIFIED = "_modified_ns"
ENTRY_FIELDS = (
    pa.field("image_uri", pa.string(), nullable=False),
    pa.field("image_bytes", pa.int64()),
    pa.field(LOCATION, pa.binary()),
    pa.field(MODIFIED, pa.int64()),
)
"""Columns of a chunk: the URI as a person reads it, the size if known, the exact bytes of the path where
the URI cannot hold them, and when the file was last changed."""


@dataclass(slots=True)
class Listing:
    """What a listing met besides images; grows while its chunks are read."""

    skipped: Counter[str] = field(default_factory=Counter)
    """Files left out, by suffix."""
    unreadable: list[str] = field(default_factory=list)
    """Folders that could not be listed."""


class Source(Protocol):
    """A place with images."""

    carried: pa.Schema
    """Columns that come along from a manifest, under their own names."""
    listing: Listing
    numbered: bool
    """Whether an image is known by its position (a manifest) rather than by its URI."""

    def chunks(self) -> Iterator[pa.Table]:
        """Yield tables of `ENTRY_FIELDS` and `carried`, in an order that does not change between starts."""


def readable(path: bytes) -> str:
    r"""A path as text; bytes that are not UTF-8 become `\xNN`."""
    return path.decode("utf-8", errors="backslashreplace")


def exact_paths(entries: pa.Table) -> list[bytes]:
    """The exact bytes of each path: what a file is read by, and known by."""
    pairs = zip(entries["image_uri"].to_pylist(), entries[LOCATION].to_pylist(), strict=True)
    return [os.fsencode(uri) if exact is None else exact for uri, exact in pairs]


def entry_table(paths: list[bytes], sizes: list[int | None], modified: list[int | None]) -> pa.Table:
    """Build a chunk from absolute paths, sizes in bytes and times in nanoseconds."""
    uris = [readable(path) for path in paths]
    exact = [None if os.fsencode(uri) == path else path for uri, path in zip(uris, paths, strict=True)]
    return pa.Table.from_arrays(
        [
            pa.array(values, kind.type)
            for values, kind in zip((uris, sizes, exact, modified), ENTRY_FIELDS, strict=True)
        ],
        schema=pa.schema(ENTRY_FIELDS),
    )
