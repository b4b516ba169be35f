"""Small Parquet files beside a run that answer a question about it, and are joined with it by `row_id`."""

from __future__ import annotations

import os
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.errors import OutputError, UsageError
from cvbatch.results.committed import OpenedOutput, Output, Storage
from cvbatch.results.data_frame import to_data_frame
from cvbatch.storage.buckets import open_bucket
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.system.formats import RecordFormat

if TYPE_CHECKING:
    import pandas as pd

_METADATA_KEY: Final = b"cvbatch"


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """What an answer was made from; stored in the metadata of its file."""

    question: str
    """Such as `duplicates`."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options that another answer must share to continue this one."""
    files: tuple[str, ...] = ()
    """Data files of the run that were read."""
    rows: tuple[tuple[int, int], ...] = ()
    """Ranges of the row ids that took part."""


ANSWER_RECORD: Final = RecordFormat("answer", AnswerRecord)


@dataclass(frozen=True, slots=True)
class AnswerFile:
    """Where one answer is kept."""

    location: Location
    question: str

    def read(self) -> tuple[pa.Table, AnswerRecord] | None:
        """Read the answer; None if there is none yet.

        Raises:
            UsageError: If the file is something else.
        """
        answer = self.read_edited()
        if answer is None:
            return None
        table, record = answer
        if record is None:
            raise self._foreign_file_error()
        return table, record

    def read_frame(self) -> pd.DataFrame:
        """Read the answer as a frame.

        Raises:
            UsageError: If the file is gone, or is something else.
        """
        answer = self.read()
        if answer is None:
            raise UsageError(f"{self.location} is gone; ask again")
        return to_data_frame(answer[0])

    def read_edited(self) -> tuple[pa.Table, AnswerRecord | None] | None:
        """Read an answer that a person may have edited; programs such as pandas lose its record, which is None then.

        Raises:
            UsageError: If the file is no Parquet, or the answer to another question.
        """
        try:
            content = self._read_bytes()
        except FileNotFoundError:
            return None
        try:
            # not `read_table`: its threads may hold the bytes at the end of the process, which ends with an abort then
            table = pq.ParquetFile(pa.BufferReader(content)).read(use_threads=False)
        except pa.ArrowInvalid:
            raise self._foreign_file_error() from None
        text = (table.schema.metadata or {}).get(_METADATA_KEY)
        if text is None:
            return table, None
        record = ANSWER_RECORD.decode_record(text, str(self.location))
        if record.question != self.question:
            raise self._foreign_file_error()
        return table, record

    def write(self, table: pa.Table, record: AnswerRecord) -> None:
        """Write the answer; replaces an earlier one.

        Raises:
            OutputError: If the folder cannot be written.
        """
        metadata = {**(table.schema.metadata or {}), _METADATA_KEY: ANSWER_RECORD.encode_record(record)}
        sink = pa.BufferOutputStream()
        pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
        self.write_bytes(sink.getvalue().to_pybytes())

    def write_bytes(self, content: bytes) -> None:
        """Write the content of the file; see `write`."""
        write_whole_file(self.location, content)

    def _read_bytes(self) -> bytes:
        if not self.location.is_local:
            return open_bucket(self.location).get_object(self.location.key).data
        try:
            return Path(self.location.uri).read_bytes()
        except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise UsageError(f"{self.location.uri}: {error.strerror}; choose another place with --to") from None

    def _foreign_file_error(self) -> UsageError:
        return UsageError(
            f"{self.location} is there and is no answer of cvbatch {self.question}; choose another place with --to"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledAnswer:
    """What is known at once of an answer whose rows are in a file."""

    path: str
    """The Parquet file with the rows."""
    file: AnswerFile = field(repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {name: value for name, value in asdict(self).items() if name != "file"}


def write_whole_file(location: Location, content: bytes, media_type: str | None = None) -> None:
    """Write a file beside a run, or replace it; nobody sees half of one.

    Args:
        location: Of the file.
        content: What it holds.
        media_type: What a bucket says to a browser that opens the file; a disk does not keep it.

    Raises:
        OutputError: If the folder cannot be written.
    """
    if not location.is_local:
        open_bucket(location).put_object(location.key, content, media_type)
        return
    path = Path(location.uri)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}; choose another place with --to") from None
    finally:
        temporary.unlink(missing_ok=True)


def place_answer(
    opened: OpenedOutput, output: Output, question: str, to: Output | None, storage: Storage
) -> AnswerFile:
    """Say where an answer is kept: by default beside the output, as `OUTPUT-QUESTION.parquet`.

    Args:
        opened: The run.
        output: Location of the run.
        question: Name of the command.
        to: Another place, which the user chose.
        storage: Options for an object store.

    Raises:
        UsageError: If a later `cvbatch run --update` would take the file for a table with images, or a whole bucket is
            the output and no place is given.
    """
    options = StorageOptions.from_mapping(storage or {})
    run = Location.from_path_or_uri(output, options)
    if to is None and not run.is_local and not run.key.strip("/"):
        raise UsageError(f"{run} has no place beside it for the answer: name one with --to")
    name = f"{run.uri.rstrip('/')}-{question}.parquet" if to is None else to
    place = Location.from_path_or_uri(name, run.options)
    if place.is_local:
        check_outside_source(place.uri, opened, "a table with images")
    return AnswerFile(place, question)


def check_outside_source(path: str, opened: OpenedOutput, mistaken_for: str) -> None:
    """Refuse to write into a folder that a later attempt lists.

    Args:
        path: Absolute path of what is written.
        opened: The run.
        mistaken_for: What a listing would take it for.

    Raises:
        UsageError: If it is in the source of the run.
    """
    sources = opened.plan.job["source"]["uri"]
    for source in [sources] if isinstance(sources, str) else sources:
        folder = os.path.abspath(source)
        if "://" not in source and os.path.isdir(folder) and os.path.commonpath([folder, path]) == folder:
            raise UsageError(
                f"{path} is in {source}, the source of the run, and a later cvbatch run --update would take it for "
                f"{mistaken_for}: choose another place with --to"
            )
