"""Manifests that are text, CSV and JSON lines: what is wrong with a line is said with its number."""

from __future__ import annotations

import codecs
import contextlib
import csv
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import SourceError
from cvbatch.sources.column_types import to_portable_array
from cvbatch.sources.entries import CHUNK_ROWS
from cvbatch.sources.extra_columns import portable_schema

LONGEST_FIELD: Final = 16 << 20
"""Characters; a field that is longer has a quote that is never closed."""
_ZEROS: Final = 3
"""So many zero bytes, on one side of the pairs only, and a file is UTF-16: the name of its column has as many."""
_DELIMITERS: Final = ",;\t|"
_BOMS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as that of UTF-16 does
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_UNFIT: Final = (TypeError, UnicodeError, OverflowError, pa.ArrowException)


_WORDS: Final[Mapping[type, str]] = {
    str: "text",
    bool: "true or false",
    int: "whole numbers",
    float: "numbers",
    list: "lists",
    dict: "objects",
}
_OR_OFF: Final = ", or leave all columns but that of the images out with source.metadata: off"


class CsvManifest:
    """A CSV file; all its columns are text. It may be separated by semicolons, tabs or bars, if the header says so.

    Args:
        path: Absolute path.
        uri_column: Tells which separator it is.

    Raises:
        SourceError: If it has no header.
    """

    def __init__(self, path: str, uri_column: str) -> None:
        self._path = path
        self._delimiter, self._spaced = ",", False
        names = self._read_header(uri_column)
        # where names begin with a space, so do the values
        self._spaced = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
        self.schema = pa.schema([(name.strip(), pa.string()) for name in names])

    def check_all_lines(self) -> None:
        """Read all of it.

        Raises:
            SourceError: Naming the first line that cannot be read.
        """
        for _ in self._iter_rows():
            pass

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """Read its lines; empty ones are none.

        Raises:
            SourceError: Naming the first line that cannot be read.
        """
        rows = self._iter_rows()
        next(rows, None)
        while chunk := list(itertools.islice(rows, CHUNK_ROWS.current_value)):
            columns = [pa.array(column, pa.string()) for column in zip(*chunk, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _read_header(self, uri_column: str) -> list[str]:
        """The names in the first line, and find out what stands between them."""
        for self._delimiter in _DELIMITERS:
            with contextlib.suppress(SourceError):
                names = next(self._iter_rows(), [])
                if uri_column in map(str.strip, names):
                    return names
        self._delimiter = ","
        header = next(self._iter_rows(), None)
        if header is None:
            raise SourceError(f"{self._path} is empty: expected a line with the names of its columns")
        return header

    def _iter_rows(self) -> Iterator[list[str]]:
        csv.field_size_limit(LONGEST_FIELD)
        reader = csv.reader(
            _iter_lines(self._path), delimiter=self._delimiter, skipinitialspace=self._spaced, strict=True
        )
        width, began = None, 1
        try:
            for row in reader:
                if row:
                    width = len(row) if width is None else width
                    if len(row) != width:
                        raise SourceError(
                            f"{self._path}: line {began}: expected {width} fields, as the header has, got {len(row)}"
                            f"{_open_quote_note(began, reader.line_num)}"
                        )
                    yield row
                began = reader.line_num + 1
        except csv.Error as error:
            raise SourceError(f"{self._path}: line {began}: {_csv_error_in_words(str(error))}") from None


class JsonLinesManifest:
    """JSON lines; the types of their values are found in one pass over the file.

    Args:
        path: Absolute path.
        uri_column: Names the images.
        others: Whether other columns are read, too.

    Raises:
        SourceError: Naming the first line that cannot be read, or values that have no common type.
    """

    def __init__(self, path: str, uri_column: str, *, others: bool = True) -> None:
        self._path, self._uri, self._others = path, uri_column, others
        schema = pa.schema([])
        for rows in self._iter_row_chunks():
            schema = pa.unify_schemas([schema, self._infer_types(rows)], promote_options="permissive")
        self._found = schema
        self.schema = portable_schema(schema, path)

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """Read its lines; empty ones are none."""
        for rows in self._iter_row_chunks():
            found = pa.RecordBatch.from_pylist(rows, schema=self._found)
            yield pa.RecordBatch.from_arrays(
                [to_portable_array(column) for column in found.columns], schema=self.schema
            )

    def _iter_row_chunks(self) -> Iterator[list[dict[str, Any]]]:
        lines = enumerate(_iter_lines(self._path), start=1)
        while chunk := list(itertools.islice(lines, CHUNK_ROWS.current_value)):
            yield [self._parse_row(number, line) for number, line in chunk if line.strip()]

    def _infer_types(self, rows: list[dict[str, Any]]) -> pa.Schema:
        fields = []
        for name in dict.fromkeys(name for row in rows for name in row):
            try:
                fields.append(pa.field(name, pa.array([row.get(name) for row in rows]).type))
            except _UNFIT:
                raise SourceError(
                    f"{self._path}: the values of {name!r} have no common type: "
                    f"{_kinds_in_words(row.get(name) for row in rows)}; write them as one type, such as text"
                    f"{'' if name == self._uri else _OR_OFF}"
                ) from None
        return pa.schema(fields)

    def _parse_row(self, number: int, line: str) -> dict[str, Any]:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise SourceError(f"{self._path}: line {number} is not JSON: {error.msg}") from None
        except RecursionError:
            raise SourceError(f"{self._path}: line {number} is nested too deeply") from None
        except ValueError:
            raise SourceError(
                f"{self._path}: line {number} holds a number of too many digits; write it as text"
            ) from None
        if not isinstance(row, dict):
            raise SourceError(
                f"{self._path}: line {number}: expected an object with a {self._uri!r}, got {line.strip()[:40]}"
            )
        return row if self._others else {self._uri: row.get(self._uri)}


def _kinds_in_words(values: Iterable[Any]) -> str:
    """What they are, for people."""
    kinds = sorted({_WORDS[type(value)] for value in values if value is not None})
    if len(kinds) > 1 and kinds != sorted((_WORDS[int], _WORDS[float])):
        return " and ".join(kinds)
    return f"{' and '.join(kinds)}, of which one is too large, not Unicode, or not like the others inside"


def _iter_lines(path: str) -> Iterator[str]:
    """The lines of a text file, with their ends.

    Raises:
        SourceError: Naming the first line that is not text.
    """
    encoding = _detect_encoding(path)
    name = encoding.upper().removesuffix("-SIG")
    with open(path, encoding=encoding, errors="surrogateescape", newline="") as file:
        number = 0
        try:
            for number, line in enumerate(file, start=1):
                if "\0" in line:
                    raise SourceError(f"{path}: line {number} holds a zero byte: expected text")
                if not line.isascii() and any("\udc80" <= letter <= "\udcff" for letter in line):
                    raise SourceError(f"{path}: line {number} is not {name}: save the file as UTF-8")
                yield line
        except UnicodeError:
            raise SourceError(f"{path}: line {number + 1} is not {name}: save the file as UTF-8") from None


def _detect_encoding(path: str) -> str:
    """How a file is written, by its first bytes."""
    with open(path, "rb") as file:
        start = file.read(64)
    for mark, encoding in _BOMS.items():
        if start.startswith(mark):
            return encoding
    for at, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        pairs = start[: len(start) // 2 * 2]
        # letters of other scripts than Latin have none, so that not every second byte is zero
        if pairs[at::2].count(0) >= _ZEROS and all(pairs[1 - at :: 2]) and _is_printable_text(pairs, encoding):
            return encoding
    return "utf-8"


def _is_printable_text(data: bytes, encoding: str) -> bool:
    try:
        return bool(data.decode(encoding).replace("\r", "").replace("\n", "").replace("\t", "").isprintable())
    except UnicodeDecodeError as error:
        return error.end >= len(data)  # a letter of four bytes is cut


def _open_quote_note(low: int, high: int) -> str:
    return "" if high <= low else f"; a quote that is opened there is closed in line {high}"


def _csv_error_in_words(error: str) -> str:
    """What Python's parser means."""
    if "expected after" in error:
        return (
            "text follows the quote that closes a field: a quote within a quoted field is written twice, and one that "
            "is opened is closed"
        )
    if "larger than" in error:
        return f"a quote is opened and never closed, or a field has more than {LONGEST_FIELD:,} characters"
    if "end of data" in error:
        return "a quote is opened and never closed"
    return error
