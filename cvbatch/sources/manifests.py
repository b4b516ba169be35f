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
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from cvbatch.errors import SourceError
from cvbatch.schema import RESERVED
from cvbatch.sources.entries import CHUNK_ROWS, Listing, entry_table

URI = "uri"
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".parquet")
_BLOCK_BYTES = 16 << 20


class _Reader(Protocol):
    schema: pa.Schema

    def batches(self) -> Iterator[pa.RecordBatch]: ...


class ManifestSource:
    """Images named by the lines of a manifest.

    Args:
        path: A local file.
        rename: New names for its columns, old name to new name.
    """

    numbered = True

    def __init__(self, path: str, rename: Mapping[str, str] | None = None) -> None:
        self.path = os.path.abspath(os.path.expanduser(path))
        self.listing = Listing()
        self._rename = dict(rename or {})
        try:
            self._reader = _READERS[os.path.splitext(path)[1].lower()](self.path)
        except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
            raise SourceError(f"{path} cannot be read as a manifest: {_first_line(error)}") from None
        schema = self._reader.schema
        if URI not in schema.names:
            raise SourceError(f"{path}: expected a column named {URI!r}, got {', '.join(schema.names) or 'none'}")
        if unknown := sorted(set(self._rename) - set(schema.names)):
            raise SourceError(f"source.rename: {path} has no column {unknown[0]!r}; it has {', '.join(schema.names)}")
        kept = [column for column in schema if column.name != URI]
        self.carried = pa.schema([column.with_name(self._new_name(column.name)) for column in kept])
        self._check_names(path)

    def chunks(self) -> Iterator[pa.Table]:
        """Yield one row per line, in the order of the file."""
        folder = os.path.dirname(self.path)
        try:
            for batch in self._reader.batches():
                for start in range(0, batch.num_rows, CHUNK_ROWS):
                    yield self._chunk(pa.Table.from_batches([batch.slice(start, CHUNK_ROWS)]), folder)
        except (OSError, pa.ArrowException) as error:
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
                chunk = chunk.append_column(self.carried.field(self._new_name(column)), table[column])
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
    if scheme == "file":
        return os.fsencode(unquote(urlsplit(uri).path))
    if separator and scheme.isalnum():
        return os.fsencode(uri)
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
            found = pa.Table.from_pylist(rows).schema if rows else schema
            columns = dict.fromkeys(name for row in rows for name in row)
            for name in columns:
                if name not in found.names:
                    values = [row.get(name) for row in rows]
                    found = found.append(pa.field(name, pa.array(values).type))
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
        self.schema = pa.schema([_text_where_unknown(column) for column in schema])

    def batches(self) -> Iterator[pa.RecordBatch]:
        for rows in self._chunks():
            yield pa.RecordBatch.from_pylist(rows, schema=self.schema)

    def _chunks(self) -> Iterator[list[dict[str, Any]]]:
        with open(self._path, encoding="utf-8") as file:
            lines = enumerate(file, start=1)
            while chunk := list(itertools.islice(lines, CHUNK_ROWS)):
                yield [self._row(number, line) for number, line in chunk if line.strip()]

    def _row(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceError(f"{self._path}: line {number} is not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise SourceError(f"{self._path}: line {number}: expected an object with a {URI!r}, got {line.strip()[:40]}")
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


def _text_where_unknown(column: pa.Field) -> pa.Field:
    """A column that is null on every line has no type of its own."""
    return column.with_type(pa.string()) if pa.types.is_null(column.type) else column


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
