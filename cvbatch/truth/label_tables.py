"""Tables with a column of images and a column of classes: CSV, TSV, Parquet, JSONL."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.json as pa_json
import pyarrow.parquet as pq

from cvbatch.errors import UsageError
from cvbatch.results.where import unknown_name
from cvbatch.schema import CONTENT_SHA256, IMAGE_URI
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location
from cvbatch.truth.base import TruthOptions

_IMAGE_COLUMNS: Final = (
    IMAGE_URI, "uri", "url", "image_path", "file_path", "filepath", "path", "file_name", "filename", "file", "image",
    "image_name", "name", "image_id", "imageid", "id", CONTENT_SHA256, "sha256",
)  # fmt: skip
_LABEL_COLUMNS: Final = (
    "label", "class", "category", "truth", "target", "class_name", "label_name", "category_name", "label_id",
    "class_id", "class_index",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumns:
    """The two columns of a table of labels."""

    image_column: str
    label_column: str
    images: Sequence[str | None]
    labels: Sequence[str | None]


def accepts_table(location: Location) -> bool:
    """Whether a location has the suffix of a table."""
    return _suffix(location) in _READERS


def read_label_columns(location: Location, options: TruthOptions | None = None) -> LabelColumns:
    """Read the column of images and the column of classes as text.

    Args:
        location: A file on a disk or in a bucket.
        options: Names of the columns; without them, columns with usual names are taken.

    Raises:
        UsageError: If the file cannot be read, or has no such columns.
    """
    try:
        with _open_file(location) as file:
            table = _READERS[_suffix(location)](file)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{location}: expected a table with a column of images and one of classes; {reason}") from None
    wanted = options or TruthOptions()
    image_column = _choose_column(location, table, "image", wanted.image_column, _IMAGE_COLUMNS)
    others = [name for name in table.column_names if name != image_column]
    only = others[:1] if len(others) == 1 else []
    label_column = _choose_column(location, table, "label", wanted.label_column, (*_LABEL_COLUMNS, *only))
    images, labels = (_to_text(location, table, name) for name in (image_column, label_column))
    return LabelColumns(image_column=image_column, label_column=label_column, images=images, labels=labels)


def _choose_column(
    location: Location, table: pa.Table, role: str, wanted: str | None, usual_names: Sequence[str]
) -> str:
    if wanted is not None:
        if wanted not in table.column_names:
            raise UsageError(f"{location}: {unknown_name('column', wanted, table.column_names)}")
        return wanted
    by_lower_name: dict[str, str] = {name.strip().lower(): name for name in reversed(table.column_names)}
    chosen = next((by_lower_name[name.lower()] for name in usual_names if name.lower() in by_lower_name), None)
    if chosen is None:
        raise UsageError(
            f"{location}: expected a column of {role}s, called for example {usual_names[0]!r}; got "
            f"{', '.join(map(repr, table.column_names[:20]))}; name it with --{role}-column"
        )
    return chosen


def _to_text(location: Location, table: pa.Table, name: str) -> list[str | None]:
    try:
        column = table[name].cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        kind = table[name].type
        raise UsageError(f"{location}: expected one text or number a row in column {name!r}, got {kind}") from None
    values: list[str | None] = column.to_pylist()
    return [None if value is None else value.strip() for value in values]


def _open_file(location: Location) -> BinaryIO:
    if location.is_local:
        return Path(location.uri).open("rb")
    return io.BytesIO(open_bucket(location).get_object(location.key).data)


def _suffix(location: Location) -> str:
    return PurePosixPath(location.uri).suffix.lower()


def _read_csv(file: Any, delimiter: str = ",") -> pa.Table:
    import pandas as pd

    frame = pd.read_csv(file, sep=delimiter, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    return pa.table({str(name): pa.array(frame[name], pa.string()) for name in frame.columns})


_READERS: Final[dict[str, Callable[[Any], pa.Table]]] = {
    ".csv": _read_csv,
    ".tsv": lambda file: _read_csv(file, "\t"),
    ".parquet": pq.read_table,
    ".jsonl": pa_json.read_json,
    ".ndjson": pa_json.read_json,
}
