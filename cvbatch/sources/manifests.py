"""Manifests: a `.csv`, `.jsonl` or `.parquet` file with a column `uri`; its other columns come along.

One row per line, repeats included. CSV stays text, so that leading zeros survive; the types of JSONL are
found in one pass over the file; Parquet columns stay as they are.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from cvbatch.errors import SourceError
from cvbatch.locations import local_path
from cvbatch.schema import RESERVED
from cvbatch.sources.entries import CHUNK_ROWS, Listing, entry_table

URI = "uri"
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".parquet")
_BLOCK_BYTES = 16 << 20
_UNREADABLE = (OSError, UnicodeError, OverflowError, pa.ArrowException)


class _Reader(Protocol):
    schema: pa.Schema

    def batches(self) -> Iterator[pa.RecordBatch]: ...


class ManifestSource:
    """Images named by the lines of a manifest.

    Args:
        path: Absolute path of a local file.
        rename: New names for its columns, old name to new name.
    """

    numbered = True

    def __init__(self, path: str, rename: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.listing = Listing()
        self._rename = dict(rename or {})
        if not os.path.isfile(path):
            raise SourceError(f"{path}: expected a manifest, and there is no such file; check source.uri")
        try:
            self._reader = _READERS[os.path.splitext(path)[1].lower()](path)
        except _UNREADABLE as error:
            raise SourceError(f"{path} cannot be read as a manifest: {_first_line(error)}") from None
        schema = self._reader.schema
        if schema.names.count(URI) != 1:
            raise SourceError(f"{path}: expected one column named {URI!r}, got {', '.join(schema.names) or 'none'}")
        if unknown := sorted(set(self._rename) - set(schema.names)):
            raise SourceError(f"source.rename: {path} has no column {unknown[0]!r}; it has {', '.join(schema.names)}")
        kept = [column for column in schema if column.name != URI]
        self.carried = pa.schema([pa.field(self._new_name(column.name), _plain(column.type)) for column in kept])
        self._check_names(path)

    def chunks(self) -> Iterator[pa.Table]:
        """Yield one row per line, in the order of the file."""
        folder = os.path.dirname(self.path)
        try:
            for batch in self._reader.batches():
                for start in range(0, batch.num_rows, CHUNK_ROWS):
                    yield self._chunk(pa.Table.from_batches([batch.slice(start, CHUNK_ROWS)]), folder)
        except _UNREADABLE as error:
            raise SourceError(f"{self.path} cannot be read as a manifest: {_first_line(error)}") from None

    def _chunk(self, table: pa.Table, folder: str) -> pa.Table:
        paths = [_resolve(uri, folder) for uri in table[URI].cast(pa.string()).to_pylist()]
        sizes, modified = [], []
        for path in paths:
            size, changed = _facts(path)
            sizes.append(size)
            modified.append(changed)
        chunk = entry_table(paths, sizes, modified)
        for column in table.column_names:
            if column != URI:
                field = self.carried.field(self._new_name(column))
                chunk = chunk.append_column(field, table[column].cast(field.type))
        return chunk

    def _new_name(self, name: str) -> str:
        return self._rename.get(name, name)

    def _check_names(self, path: str) -> None:
        names = self.carried.names
        for name in names:
            if name in RESERVED or name.startswith("_"):
                raise SourceError(
                    f"{path}: the column {name!r} has a name that cvbatch uses; give it another one with "
                    f"source.rename: {{{name}: my_{name.lstrip('_')}}}"
                )
            if names.count(name) > 1:
                raise SourceError(f"{path}: two columns are named {name!r}; rename one with source.rename")


def _resolve(uri: str | None, folder: str) -> bytes:
    """Absolute path of a line; a line without a URI becomes a path that nothing can have."""
    if not uri:
        return b""
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.isalnum():
        return os.fsencode(local_path(uri) or uri)
    return os.fsencode(os.path.normpath(os.path.join(folder, uri)))


def _facts(path: bytes) -> tuple[int | None, int | None]:
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
        self.schema = pa.schema([column.with_type(_settled(column.type)) for column in schema])
        if empty := [column.name for column in self.schema if _has_empty_object(column.type)]:
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
        self.schema = pq.read_schema(path).remove_metadata()

    def batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path) as file:
            yield from file.iter_batches(batch_size=CHUNK_ROWS)


_READERS: dict[str, type[_Csv] | type[_JsonLines] | type[_Parquet]] = {
    ".csv": _Csv,
    ".jsonl": _JsonLines,
    ".parquet": _Parquet,
}


def _settled(kind: pa.DataType) -> pa.DataType:
    """What is null wherever it occurs has no type of its own and becomes text."""
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_settled(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([column.with_type(_settled(column.type)) for column in kind])
    return kind


def _has_empty_object(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind):
        return _has_empty_object(kind.value_type)
    return pa.types.is_struct(kind) and (not len(kind) or any(_has_empty_object(column.type) for column in kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type that every engine reads: no extension, and no list of fixed size, which cannot be null in pandas."""
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(kind.storage_type)
    return pa.list_(kind.value_type) if pa.types.is_fixed_size_list(kind) else kind


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]
