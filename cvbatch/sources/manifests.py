"""Manifests: a `.csv`, `.jsonl`, `.parquet` or `.arrow` file with a column `uri`; its other columns come along.

One row per line, repeats included. CSV stays text, so that leading zeros survive; the types of JSONL are
found in one pass over the file; columns of Parquet and Arrow stay as they are.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from cvbatch.errors import ImageError, SourceError
from cvbatch.locations import local_path
from cvbatch.sources.blobs import BrokenContainerError, open_blob
from cvbatch.sources.carrying import has_empty_object, new_names, plain, settled
from cvbatch.sources.entries import CHUNK_ROWS, Listing, entry_table
from cvbatch.sources.tables.arrow import ArrowTable
from cvbatch.sources.tables.columns import image_column as find_image_column
from cvbatch.sources.tables.listing import first_line, open_table
from cvbatch.sources.targets import SECRET_IN_URI
from cvbatch.storage.places import Place, has_secret, is_object_uri, without_secret

URI = "uri"
_BLOCK_BYTES = 16 << 20
_UNREADABLE = (ImageError, OSError, UnicodeError, OverflowError, pa.ArrowException)


class _Reader(Protocol):
    schema: pa.Schema

    def batches(self) -> Iterator[pa.RecordBatch]: ...


def is_manifest(path: str, uri_column: str = URI, image_column: str | None = None) -> bool:
    """Whether a file is read as a manifest rather than as a table that holds the images itself.

    Args:
        path: Absolute path; a table need not be there.
        uri_column: Column of a manifest that names the images.
        image_column: Column of a table that holds them, if the job names it.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _READERS or (suffix in _TABLES and not os.path.isfile(path)):
        return suffix in _READERS and not os.path.lexists(path) and not glob.has_magic(path)
    if suffix not in _TABLES:
        return True
    try:
        return _names_images(_READERS[suffix](path).schema, uri_column, image_column)
    except BrokenContainerError:
        return False
    except _UNREADABLE:
        return True


def is_remote_manifest(place: Place, uri_column: str = URI, image_column: str | None = None) -> bool:
    """The same for an object; see `is_manifest`.

    Raises:
        ImageError: If a table is not there, or may not be read.
    """
    suffix = os.path.splitext(place.key)[1].lower()
    if suffix not in _READERS or glob.has_magic(place.key):
        return False
    if suffix not in _TABLES:
        return True
    try:
        schema = open_table(open_blob(os.fsencode(place.uri), place.options)).schema
        return _names_images(schema, uri_column, image_column)
    except BrokenContainerError:
        return False


def _names_images(schema: pa.Schema, uri_column: str, image_column: str | None) -> bool:
    return image_column is None and (uri_column in schema.names or find_image_column(schema, None) is None)


class ManifestSource:
    """Images named by the lines of a manifest.

    Args:
        path: Absolute path of a local file.
        rename: New names for its columns, old name to new name.
        uri_column: The column that names the images.
        named: Where it was copied from; relative locations are meant from there.
    """

    numbered = True

    def __init__(
        self,
        path: str,
        rename: Mapping[str, str] | None = None,
        uri_column: str = URI,
        *,
        named: str | None = None,
    ) -> None:
        self.path = path
        self._folder = os.path.dirname(named or path)
        self.listing = Listing()
        self._uri = uri_column
        self._rename = dict(rename or {})
        if not os.path.isfile(path):
            raise SourceError(f"{path}: expected a manifest, and there is no such file; check source.uri")
        try:
            self._reader = _READERS[os.path.splitext(path)[1].lower()](path)
            found = list(self._reader.schema.names)
        except _UNREADABLE as error:
            raise SourceError(f"{path} cannot be read as a manifest: {first_line(error)}") from None
        schema = self._reader.schema
        if found.count(self._uri) != 1:
            names = ", ".join(found) or "none"
            raise SourceError(f"{path}: expected one column named {self._uri!r}, got {names}")
        kept = [pa.field(column.name, plain(column.type)) for column in schema if column.name != self._uri]
        self.carried = new_names(pa.schema(kept), self._rename, path)

    def chunks(self) -> Iterator[pa.Table]:
        """Yield one row per line, in the order of the file."""
        try:
            for batch in self._reader.batches():
                for start in range(0, batch.num_rows, CHUNK_ROWS):
                    yield self._chunk(pa.Table.from_batches([batch.slice(start, CHUNK_ROWS)]))
        except _UNREADABLE as error:
            raise SourceError(f"{self.path} cannot be read as a manifest: {first_line(error)}") from None

    def _chunk(self, table: pa.Table) -> pa.Table:
        paths, refused = list[bytes](), list[str | None]()
        for uri in table[self._uri].cast(pa.string()).to_pylist():
            secret = uri is not None and has_secret(uri)
            # what must not be kept does not get as far as the plan
            paths.append(_resolve(without_secret(uri) if secret else uri, self._folder))
            refused.append(SECRET_IN_URI if secret else None)
        sizes, modified = [], []
        for path in paths:
            size, changed = _facts(path)
            sizes.append(size)
            modified.append(changed)
        chunk = entry_table(paths, sizes, modified, refused)
        for column in table.column_names:
            if column != self._uri:
                field = self.carried.field(self._rename.get(column, column))
                chunk = chunk.append_column(field, table[column].cast(field.type))
        return chunk


def _resolve(uri: str | None, folder: str) -> bytes:
    """Absolute path of a line; a line without a URI becomes a path that nothing can have."""
    if not uri:
        return b""
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.isalnum():
        return os.fsencode(local_path(uri) or uri)
    if is_object_uri(folder) and not uri.startswith("/"):
        start, _, below = folder.partition("://")[2].partition("/")
        inside = posixpath.normpath(f"/{below}/{uri}")  # no `..` leads out of the bucket
        return os.fsencode(f"{folder.partition('://')[0]}://{start}{inside}")
    return os.fsencode(os.path.normpath(os.path.join(folder, uri)))


def _facts(path: bytes) -> tuple[int | None, int | None]:
    """Size and time of a file; of what is elsewhere nobody asks before it is fetched."""
    if not path.startswith(b"/"):
        return None, None
    try:
        fact = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return fact.st_size, fact.st_mtime_ns


class _Csv:
    def __init__(self, path: str) -> None:
        self._path = path
        self._parse = pc.ParseOptions(newlines_in_values=True)
        with open(path, "rb") as file:
            header = pc.open_csv(file, self._read_options(), self._parse).schema.names
        self.schema = pa.schema([(name, pa.string()) for name in header])

    def _read_options(self) -> pc.ReadOptions:
        return pc.ReadOptions(block_size=_BLOCK_BYTES)

    def batches(self) -> Iterator[pa.RecordBatch]:
        types = {name: pa.string() for name in self.schema.names}
        convert = pc.ConvertOptions(column_types=types, strings_can_be_null=False)
        yield from pc.open_csv(self._path, self._read_options(), self._parse, convert)


class _JsonLines:
    def __init__(self, path: str) -> None:
        self._path = path
        schema = pa.schema([])
        for rows in self._chunks():
            schema = pa.unify_schemas([schema, self._types(rows)], promote_options="permissive")
        self.schema = pa.schema([column.with_type(settled(column.type)) for column in schema])
        if empty := [column.name for column in self.schema if has_empty_object(column.type)]:
            raise SourceError(
                f"{path}: {empty[0]!r} has objects without any key, which Parquet cannot hold; leave it out"
            )

    def batches(self) -> Iterator[pa.RecordBatch]:
        for rows in self._chunks():
            yield pa.RecordBatch.from_pylist(rows, schema=self.schema)

    def _chunks(self) -> Iterator[list[dict[str, Any]]]:
        with open(self._path, encoding="utf-8-sig") as file:
            lines = enumerate(file, start=1)
            while chunk := list(itertools.islice(lines, CHUNK_ROWS)):
                yield [self._row(number, line) for number, line in chunk if line.strip()]

    def _types(self, rows: list[dict[str, Any]]) -> pa.Schema:
        fields = []
        for name in dict.fromkeys(name for row in rows for name in row):
            try:
                fields.append(pa.field(name, pa.array([row.get(name) for row in rows]).type))
            except _UNREADABLE as error:
                raise SourceError(f"{self._path}: the values of {name!r} have no common type: {error}") from None
        return pa.schema(fields)

    def _row(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceError(f"{self._path}: line {number} is not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise SourceError(
                f"{self._path}: line {number}: expected an object with a {URI!r}, got {line.strip()[:40]}"
            )
        return row


class _Parquet:
    def __init__(self, path: str) -> None:
        self._path = path
        self.schema = pq.read_schema(path)

    def batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path) as file:
            yield from file.iter_batches(batch_size=CHUNK_ROWS)


class _Arrow:
    def __init__(self, path: str) -> None:
        self._table = ArrowTable(open_blob(os.fsencode(path)))
        self.schema = self._table.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        yield from self._table.batches()


_TABLES: dict[str, type[_Parquet] | type[_Arrow]] = {".parquet": _Parquet, ".arrow": _Arrow, ".feather": _Arrow}
_READERS: dict[str, type[_Csv] | type[_JsonLines] | type[_Parquet] | type[_Arrow]] = {
    ".csv": _Csv,
    ".jsonl": _JsonLines,
    **_TABLES,
}
MANIFEST_SUFFIXES = frozenset(_READERS)
"""Endings of files that may be manifests."""
