"""Manifests: a `.csv`, `.tsv`, `.jsonl`, `.parquet` or `.arrow` file with a column `uri`; others are extra columns.

Each line is a row, repeats included. Values of CSV stay text, so that leading zeros survive. One pass over a JSONL file
infers its types. Columns of Parquet and Arrow keep their types if these are portable.
"""

from __future__ import annotations

import glob
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.errors import ImageError, SourceError
from cvbatch.sources.column_types import UnportableError, is_text_type, portable_type, to_portable_array
from cvbatch.sources.entries import CHUNK_ROWS, ListingReport, entry_table
from cvbatch.sources.extra_columns import portable_schema, rename_columns
from cvbatch.sources.fetch.blob import BrokenContainerError, open_blob
from cvbatch.sources.fetch.url_policy import SECRET_IN_URI
from cvbatch.sources.tables.arrow import ArrowTable
from cvbatch.sources.tables.columns import explain_no_images
from cvbatch.sources.tables.columns import find_image_column as find_image_column
from cvbatch.sources.tables.listing import first_line_of_error, open_table
from cvbatch.sources.text_manifests import CsvManifest, JsonLinesManifest
from cvbatch.storage.local_paths import file_uri_to_path, lowercase_scheme
from cvbatch.storage.location import Location, has_secret, is_object_uri, strip_secret

URI = "uri"
_PACKED: Final = (".gz", ".bz2", ".xz", ".zst", ".zip")
_UNREADABLE = (ImageError, OSError, UnicodeError, OverflowError, pa.ArrowException)


class _ManifestReader(Protocol):
    @property
    def schema(self) -> pa.Schema: ...

    def iter_batches(self) -> Iterator[pa.RecordBatch]: ...


def is_manifest(path: str, uri_column: str = URI, image_column: str | None = None) -> bool:
    """Whether a file is read as a manifest and not as a table of encoded images.

    Args:
        path: Absolute path; the file need not exist.
        uri_column: Column of a manifest with the URIs of the images.
        image_column: Column of a table with the encoded images, if the job names it.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in _READERS or (suffix in _TABLES and not os.path.isfile(path)):
        return suffix in _READERS and not os.path.lexists(path) and not glob.has_magic(path)
    if suffix not in _TABLES:
        return True
    try:
        return _names_images(_READERS[suffix](path, uri_column).schema, uri_column, image_column)
    except BrokenContainerError:
        return False
    except _UNREADABLE:
        return True


def is_packed_manifest(path: str) -> bool:
    """Whether a path names a compressed text manifest, such as `urls.csv.gz`."""
    inner, suffix = os.path.splitext(path.lower())
    return suffix in _PACKED and os.path.splitext(inner)[1] in _TEXTS and not glob.has_magic(path)


def is_remote_manifest(location: Location, uri_column: str = URI, image_column: str | None = None) -> bool:
    """Same as `is_manifest`, for an object in a bucket.

    Raises:
        ImageError: If a table does not exist or cannot be read.
    """
    suffix = os.path.splitext(location.key)[1].lower()
    if suffix not in _READERS or glob.has_magic(location.key):
        return False
    if suffix not in _TABLES:
        return True
    try:
        schema = open_table(open_blob(os.fsencode(location.uri), location.options)).schema
        return _names_images(schema, uri_column, image_column)
    except BrokenContainerError:
        return False


def _names_images(schema: pa.Schema, uri_column: str, image_column: str | None) -> bool:
    return image_column is None and (uri_column in schema.names or find_image_column(schema, None) is None)


class ManifestSource:
    """Images that the lines of a manifest name.

    Args:
        path: Absolute path of a local file.
        rename: New names of its columns, old name to new name.
        uri_column: Column with the URIs of the images.
        origin: Location that the file was copied from; relative URIs are resolved against it.
        metadata: Whether to keep its other columns.
        extra_columns: Extra columns of the plan, if there is one.

    Raises:
        SourceError: If it cannot be read as a manifest, or a column cannot be kept.
    """

    positional = True

    def __init__(
        self,
        path: str,
        rename: Mapping[str, str] | None = None,
        uri_column: str = URI,
        *,
        origin: str | None = None,
        metadata: bool = True,
        extra_columns: pa.Schema | None = None,
    ) -> None:
        self.path = path
        self._folder = os.path.dirname(origin or path)
        self.listing = ListingReport()
        self._uri = uri_column
        self._rename = dict(rename or {})
        keeps_columns = metadata or bool(extra_columns)
        if not os.path.isfile(path):
            advice = (
                "name each manifest with a --source of its own"
                if glob.has_magic(path)
                else "check --source or source.uri"
            )
            raise SourceError(f"{path}: expected a manifest, but the file does not exist; {advice}")
        try:
            self._reader = _open_manifest_reader(path, uri_column, all_columns=keeps_columns)
            schema = self._reader.schema
        except _UNREADABLE as error:
            raise SourceError(f"{path} cannot be read as a manifest: {first_line_of_error(error)}") from None
        self._check_uris(schema)
        if extra_columns is None and isinstance(self._reader, CsvManifest):
            self._reader.check_all_lines()  # JSON lines were already read to the end, for their types
        others = pa.schema([column for column in schema if keeps_columns and column.name != self._uri])
        self.extra_columns = rename_columns(
            _portable_manifest_schema(others, path), self._rename if keeps_columns else {}, path, extra_columns
        )
        planned_columns = {column.name: column for column in extra_columns or ()}
        self.extra_columns = pa.schema([planned_columns.get(column.name, column) for column in self.extra_columns])

    def _check_uris(self, schema: pa.Schema) -> None:
        names = list(schema.names)
        if names.count(self._uri) != 1:
            explanation = explain_no_images(schema, None)
            hint = "" if self._uri in names else "; source.uri_column names another one"
            raise SourceError(
                f"{self.path}: expected one column named {self._uri!r}, got {', '.join(names) or 'none'}"
                f"{hint if explanation is None else f'; {explanation}'}"
            )
        kind = schema.field(self._uri).type
        try:
            if pa.types.is_nested(portable_type(kind)):
                raise UnportableError
        except UnportableError:
            raise SourceError(f"{self.path}: the column {self._uri!r} is {kind}: expected text") from None

    def iter_chunks(self) -> Iterator[pa.Table]:
        """Yield one row per line, in the order of the file."""
        try:
            for batch in self._reader.iter_batches():
                for start in range(0, batch.num_rows, CHUNK_ROWS.current_value):
                    yield self._batch_to_chunk(batch.slice(start, CHUNK_ROWS.current_value))
        except _UNREADABLE as error:
            raise SourceError(f"{self.path} cannot be read as a manifest: {first_line_of_error(error)}") from None

    def _batch_to_chunk(self, batch: pa.RecordBatch) -> pa.Table:
        paths, refusals = list[bytes](), list[str | None]()
        for uri in _uris_of_column(batch.column(self._uri)):
            secret = SECRET_IN_URI if uri is not None and has_secret(uri) else None
            # a secret must not get into the plan
            paths.append(_resolve_line_uri(uri if uri is None or secret is None else strip_secret(uri), self._folder))
            refusals.append(secret)
        sizes, modified = [], []
        for path in paths:
            size, file_time = _size_and_time(path)
            sizes.append(size)
            modified.append(file_time)
        chunk = entry_table(paths, sizes, modified, refusals)
        for index, name in enumerate(batch.schema.names):
            new_name = self._rename.get(name, name)
            if name != self._uri and new_name in self.extra_columns.names:
                field = self.extra_columns.field(new_name)
                chunk = chunk.append_column(field, _portable_values(batch.column(index)).cast(field.type))
        return chunk


def _open_manifest_reader(path: str, uri_column: str, *, all_columns: bool) -> _ManifestReader:
    reader = _READERS[os.path.splitext(path)[1].lower()]
    # the values of unused columns need no common type
    return (
        JsonLinesManifest(path, uri_column, all_columns=all_columns)
        if reader is JsonLinesManifest
        else reader(path, uri_column)
    )


def _portable_manifest_schema(schema: pa.Schema, manifest_name: str) -> pa.Schema:
    """The columns with portable types; dictionaries of text stay dictionaries."""
    portable = portable_schema(schema, manifest_name)
    stays_dictionary = (
        pa.types.is_dictionary(column.type) and is_text_type(column.type.value_type) for column in schema
    )
    return pa.schema(
        [
            pa.field(portable_field.name, field.type if unchanged else portable_field.type)
            for field, portable_field, unchanged in zip(schema, portable, stays_dictionary, strict=True)
        ]
    )


def _uris_of_column(column: pa.Array) -> list[str | None]:
    column.validate(full=True)  # refuses bytes that are not UTF-8, as they name no known file
    uris: list[str | None] = to_portable_array(column).cast(pa.string()).to_pylist()
    return uris


def _portable_values(values: pa.Array) -> pa.Array:
    """Values with a portable type; dictionaries of text stay dictionaries."""
    if pa.types.is_dictionary(values.type) and is_text_type(values.type.value_type):
        return pa.DictionaryArray.from_arrays(values.indices, to_portable_array(values.dictionary))
    return to_portable_array(values)


def _resolve_line_uri(uri: str | None, folder: str) -> bytes:
    """Absolute path or URI of a line; empty, which no file can have, if the line has no URI."""
    if not uri:
        return b""
    if (path := file_uri_to_path(uri)) is not None:
        return os.fsencode(path)
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.isalnum():
        return os.fsencode(lowercase_scheme(uri))
    if is_object_uri(folder) and not uri.startswith("/"):
        bucket, _, bucket_folder = folder.partition("://")[2].partition("/")
        bucket_path = posixpath.normpath(f"/{bucket_folder}/{uri}")  # `..` cannot leave the bucket
        return os.fsencode(f"{folder.partition('://')[0]}://{bucket}{bucket_path}")
    return os.fsencode(os.path.normpath(os.path.join(folder, uri)))


def _size_and_time(path: bytes) -> tuple[int | None, int | None]:
    """Size in bytes and modification time in nanoseconds of a local file; None for remote and missing files."""
    if not path.startswith(b"/"):
        return None, None
    try:
        file_stat = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return file_stat.st_size, file_stat.st_mtime_ns


class _ParquetManifest:
    def __init__(self, path: str, _: str) -> None:
        self._path = path
        self.schema: pa.Schema = pq.read_schema(path)

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path) as file:
            yield from file.iter_batches(batch_size=CHUNK_ROWS.current_value)


class _ArrowManifest:
    def __init__(self, path: str, _: str) -> None:
        self._table = ArrowTable(open_blob(os.fsencode(path)))
        self.schema = self._table.schema

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        yield from self._table.record_batches()


_TABLES: Final[Mapping[str, Callable[[str, str], _ManifestReader]]] = {
    ".parquet": _ParquetManifest,
    ".arrow": _ArrowManifest,
    ".feather": _ArrowManifest,
}
_TEXTS: Final[Mapping[str, Callable[[str, str], _ManifestReader]]] = {
    ".csv": CsvManifest,
    ".tsv": CsvManifest,
    ".jsonl": JsonLinesManifest,
}
_READERS: Final = {**_TEXTS, **_TABLES}
MANIFEST_SUFFIXES: Final = frozenset(_READERS)
"""Suffixes of files that may be manifests."""
