"""Text manifests (CSV and JSON lines); errors name the line."""

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
"""Characters; a longer field comes from a quote that is never closed."""
_ZEROS: Final = 3
"""Zero bytes, all in even or all in odd positions, that identify UTF-16; the name `uri` already has this many."""
_DELIMITERS: Final = ",;\t|"
_BOMS: Final = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # starts with the mark of UTF-16
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
_OR_OFF: Final = ", or drop all columns except the URIs with source.metadata: off"


class CsvManifest:
    """A CSV file; all columns are text. The separator is a comma, semicolon, tab or bar, whichever the header uses.

    Args:
        path: Absolute path.
        uri_column: Column of URIs; the separator that yields this name is used.

    Raises:
        SourceError: If the file has no header.
    """

    def __init__(self, path: str, uri_column: str) -> None:
        self._path = path
        self._delimiter, self._has_spaces = ",", False
        names = self._read_header(uri_column)
        # if the names start with a space, so do the values
        self._has_spaces = len(names) > 1 and all(name.startswith(" ") for name in names[1:])
        self.schema = pa.schema([(name.strip(), pa.string()) for name in names])

    def check_all_lines(self) -> None:
        """Read the whole file.

        Raises:
            SourceError: If a line cannot be read; names the first one.
        """
        for _ in self._iter_rows():
            pass

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the lines in batches, without empty lines.

        Raises:
            SourceError: If a line cannot be read; names the first one.
        """
        rows = self._iter_rows()
        next(rows, None)
        while chunk := list(itertools.islice(rows, CHUNK_ROWS.current_value)):
            columns = [pa.array(column, pa.string()) for column in zip(*chunk, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=self.schema)

    def _read_header(self, uri_column: str) -> list[str]:
        """Detect the separator; return the names in the first line."""
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
            _iter_lines(self._path), delimiter=self._delimiter, skipinitialspace=self._has_spaces, strict=True
        )
        width, first_line = None, 1
        try:
            for row in reader:
                if row:
                    width = len(row) if width is None else width
                    if len(row) != width:
                        raise SourceError(
                            f"{self._path}: line {first_line}: expected {width} fields, as the header has, "
                            f"got {len(row)}{_open_quote_note(first_line, reader.line_num)}"
                        )
                    yield row
                first_line = reader.line_num + 1
        except csv.Error as error:
            raise SourceError(f"{self._path}: line {first_line}: {_csv_error_in_words(str(error))}") from None


class JsonLinesManifest:
    """A JSON lines file; one pass over the file infers the types.

    Args:
        path: Absolute path.
        uri_column: Column with the URIs of the images.
        all_columns: Whether to read the other columns, too.

    Raises:
        SourceError: If a line cannot be read or values have no common type.
    """

    def __init__(self, path: str, uri_column: str, *, all_columns: bool = True) -> None:
        self._path, self._uri_column, self._reads_all_columns = path, uri_column, all_columns
        schema = pa.schema([])
        for rows in self._iter_row_chunks():
            schema = pa.unify_schemas([schema, self._infer_types(rows)], promote_options="permissive")
        self._inferred_schema = schema
        self.schema = portable_schema(schema, path)

    def iter_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the lines in batches, without empty lines."""
        for rows in self._iter_row_chunks():
            batch = pa.RecordBatch.from_pylist(rows, schema=self._inferred_schema)
            yield pa.RecordBatch.from_arrays(
                [to_portable_array(column) for column in batch.columns], schema=self.schema
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
                    f"{'' if name == self._uri_column else _OR_OFF}"
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
                f"{self._path}: line {number} holds a number with too many digits; write it as text"
            ) from None
        if not isinstance(row, dict):
            raise SourceError(
                f"{self._path}: line {number}: expected an object with a {self._uri_column!r}, got {line.strip()[:40]}"
            )
        return row if self._reads_all_columns else {self._uri_column: row.get(self._uri_column)}


def _kinds_in_words(values: Iterable[Any]) -> str:
    """Readable names of the types of values."""
    kinds = sorted({_WORDS[type(value)] for value in values if value is not None})
    if len(kinds) > 1 and kinds != sorted((_WORDS[int], _WORDS[float])):
        return " and ".join(kinds)
    return f"{' and '.join(kinds)}, one of which is too large, not Unicode, or contains other types"


def _iter_lines(path: str) -> Iterator[str]:
    """Lines of a text file, with their line ends.

    Raises:
        SourceError: If a line is not text; names the first one.
    """
    encoding = _detect_encoding(path)
    name = encoding.upper().removesuffix("-SIG")
    with open(path, encoding=encoding, errors="surrogateescape", newline="") as file:
        number = 0
        try:
            for number, line in enumerate(file, start=1):
                if "\0" in line:
                    raise SourceError(f"{path}: line {number} holds a zero byte: expected text")
                if not line.isascii() and any("\udc80" <= character <= "\udcff" for character in line):
                    raise SourceError(f"{path}: line {number} is not {name}: save the file as UTF-8")
                yield line
        except UnicodeError:
            raise SourceError(f"{path}: line {number + 1} is not {name}: save the file as UTF-8") from None


def _detect_encoding(path: str) -> str:
    """Encoding of a file, by its first bytes."""
    with open(path, "rb") as file:
        head = file.read(64)
    for byte_order_mark, encoding in _BOMS.items():
        if head.startswith(byte_order_mark):
            return encoding
    for zero_offset, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        pairs = head[: len(head) // 2 * 2]
        # letters of scripts other than Latin have no zero byte, so not every second byte is zero
        if (
            pairs[zero_offset::2].count(0) >= _ZEROS
            and all(pairs[1 - zero_offset :: 2])
            and _is_printable_text(pairs, encoding)
        ):
            return encoding
    return "utf-8"


def _is_printable_text(data: bytes, encoding: str) -> bool:
    try:
        return bool(data.decode(encoding).replace("\r", "").replace("\n", "").replace("\t", "").isprintable())
    except UnicodeDecodeError as error:
        return error.end >= len(data)  # a character of four bytes is cut


def _open_quote_note(first_line: int, last_line: int) -> str:
    return "" if last_line <= first_line else f"; a quote opened there is closed in line {last_line}"


def _csv_error_in_words(error: str) -> str:
    """Explain an error of Python's CSV parser."""
    if "expected after" in error:
        return (
            "text follows the quote that closes a field: write a quote within a quoted field twice, and close every "
            "quote"
        )
    if "larger than" in error:
        return f"a quote is opened and never closed, or a field has more than {LONGEST_FIELD:,} characters"
    if "end of data" in error:
        return "a quote is opened and never closed"
    return error
