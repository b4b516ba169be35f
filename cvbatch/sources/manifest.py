"""Manifests: a `.csv`, `.tsv`, `.jsonl`, `.parquet` or `.arrow` file with a column `uri`; its other columns come along.

One row per line, repeats included. CSV stays text, so that leading zeros survive; the types of JSONL are
found in one pass over the file; columns of Parquet and Arrow stay as they are, where every reader knows their types.
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
from cvbatch.sources.column_types import UnportableError, portable_type, to_portable_array
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
        return _names_images(_READERS[suffix](path, uri_column).schema, uri_column, image_column)
    except BrokenContainerError:
        return False
    except _UNREADABLE:
        return True


def is_packed_manifest(path: str) -> bool:
    """Whether a path names a manifest of text that is packed, such as `urls.csv.gz`."""
    inner, suffix = os.path.splitext(path.lower())
    return suffix in _PACKED and os.path.splitext(inner)[1] in _TEXTS and not glob.has_magic(path)


def is_remote_manifest(place: Location, uri_column: str = URI, image_column: str | None = None) -> bool:
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
        metadata: Whether its other columns come along.
        planned: The columns that came along when it was planned.

    Raises:
        SourceError: If it cannot be read as a manifest, or a column cannot come along.
    """

    positional = True

    def __init__(
        self,
        path: str,
        rename: Mapping[str, str] | None = None,
        uri_column: str = URI,
        *,
        named: str | None = None,
        metadata: bool = True,
        planned: pa.Schema | None = None,
    ) -> None:
        self.path = path
        self._folder = os.path.dirname(named or path)
        self.listing = ListingReport()
        self._uri = uri_column
        self._rename = dict(rename or {})
        keep = metadata or bool(planned)
        if not os.path.isfile(path):
            advice = "name each manifest with a --source of its own" if glob.has_magic(path) else "check source.uri"
            raise SourceError(f"{path}: expected a manifest, and there is no such file; {advice}")
        try:
            self._reader = _open_manifest_reader(path, uri_column, others=keep)
            schema = self._reader.schema
        except _UNREADABLE as error:
            raise SourceError(f"{path} cannot be read as a manifest: {first_line_of_error(error)}") from None
        self._check_uris(schema)
        if planned is None and isinstance(self._reader, CsvManifest):
            self._reader.check_all_lines()  # JSON lines were read to their end for their types
        others = pa.schema([column for column in schema if keep and column.name != self._uri])
        self.extra_columns = rename_columns(
            _portable_manifest_schema(others, path), self._rename if keep else {}, path, planned
        )
        before = {column.name: column for column in planned or ()}
        self.extra_columns = pa.schema([before.get(column.name, column) for column in self.extra_columns])

    def _check_uris(self, schema: pa.Schema) -> None:
        found = list(schema.names)
        if found.count(self._uri) != 1:
            wrong = explain_no_images(schema, None)
            hint = "" if self._uri in found else "; source.uri_column names another one"
            raise SourceError(
                f"{self.path}: expected one column named {self._uri!r}, got {', '.join(found) or 'none'}"
                f"{hint if wrong is None else f'; {wrong}'}"
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
        paths, refused = list[bytes](), list[str | None]()
        for uri in _uris_of_column(batch.column(self._uri)):
            secret = SECRET_IN_URI if uri is not None and has_secret(uri) else None
            # what must not be kept does not get as far as the plan
            paths.append(_resolve_line_uri(uri if uri is None or secret is None else strip_secret(uri), self._folder))
            refused.append(secret)
        sizes, modified = [], []
        for path in paths:
            size, changed = _size_and_time(path)
            sizes.append(size)
            modified.append(changed)
        chunk = entry_table(paths, sizes, modified, refused)
        for at, name in enumerate(batch.schema.names):
            new = self._rename.get(name, name)
            if name != self._uri and new in self.extra_columns.names:
                field = self.extra_columns.field(new)
                chunk = chunk.append_column(field, _portable_values(batch.column(at)).cast(field.type))
        return chunk


def _open_manifest_reader(path: str, uri_column: str, *, others: bool) -> _ManifestReader:
    reader = _READERS[os.path.splitext(path)[1].lower()]
    # the types of columns that do not come along need not agree
    return (
        JsonLinesManifest(path, uri_column, others=others) if reader is JsonLinesManifest else reader(path, uri_column)
    )


def _portable_manifest_schema(schema: pa.Schema, where: str) -> pa.Schema:
    """With types that every reader knows; text with repeats may stay a dictionary."""
    plain = portable_schema(schema, where)
    repeats = (pa.types.is_dictionary(column.type) and _is_plain_text_type(column.type.value_type) for column in schema)
    return pa.schema(
        [
            pa.field(new.name, old.type if stays else new.type)
            for old, new, stays in zip(schema, plain, repeats, strict=True)
        ]
    )


def _uris_of_column(column: pa.Array) -> list[str | None]:
    column.validate(full=True)  # bytes that are not UTF-8 are refused here: what file they mean nobody knows
    uris: list[str | None] = to_portable_array(column).cast(pa.string()).to_pylist()
    return uris


def _portable_values(values: pa.Array) -> pa.Array:
    """As what every reader knows; a dictionary stays one."""
    if pa.types.is_dictionary(values.type) and _is_plain_text_type(values.type.value_type):
        return pa.DictionaryArray.from_arrays(values.indices, to_portable_array(values.dictionary))
    return to_portable_array(values)


def _is_plain_text_type(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _resolve_line_uri(uri: str | None, folder: str) -> bytes:
    """Absolute path of a line; a line without a URI becomes a path that nothing can have."""
    if not uri:
        return b""
    if (path := file_uri_to_path(uri)) is not None:
        return os.fsencode(path)
    scheme, separator, _ = uri.partition("://")
    if separator and scheme.isalnum():
        return os.fsencode(lowercase_scheme(uri))
    if is_object_uri(folder) and not uri.startswith("/"):
        start, _, below = folder.partition("://")[2].partition("/")
        inside = posixpath.normpath(f"/{below}/{uri}")  # no `..` leads out of the bucket
        return os.fsencode(f"{folder.partition('://')[0]}://{start}{inside}")
    return os.fsencode(os.path.normpath(os.path.join(folder, uri)))


def _size_and_time(path: bytes) -> tuple[int | None, int | None]:
    """Size and time of a file; of what is elsewhere nobody asks before it is fetched."""
    if not path.startswith(b"/"):
        return None, None
    try:
        fact = os.stat(path)
    except (OSError, ValueError):
        return None, None
    return fact.st_size, fact.st_mtime_ns


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
"""Endings of files that may be manifests."""
