"""What tables of other systems need to know of the files of a run, which they register without copying them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

import pyarrow as pa

from cvbatch.output.log_records import DataFile
from cvbatch.results.committed import OpenedOutput
from cvbatch.storage.location import Location
from cvbatch.storage.s3_access import S3Access, find_s3_access

RUN_KEY: Final = "cvbatch.run"
"""Property of a table with the nonce of the run that it registers."""
Widening: TypeAlias = Mapping[pa.DataType, pa.DataType]
"""Types that a table cannot have, with a type that holds all of their values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TableChange:
    """What makes the files of a table those of the run."""

    added: Mapping[str, DataFile]
    """By location, as the table names it."""
    removed: Collection[str]

    @property
    def counts(self) -> dict[str, int]:
        """For the report."""
        return {"files added": len(self.added), "files removed": len(self.removed)}


def find_change(wanted: Mapping[str, DataFile], registered: Collection[str]) -> TableChange:
    """Compare the files of the run with those that a table has.

    Args:
        wanted: Committed files by location, as the table names it.
        registered: Locations that the table has now.
    """
    return TableChange(
        added={path: file for path, file in wanted.items() if path not in registered},
        removed=[path for path in registered if path not in wanted],
    )


def locate_files(opened: OpenedOutput, locate: Callable[[str], str]) -> dict[str, DataFile]:
    """The committed files by location.

    Args:
        opened: The run.
        locate: From a path below the output to the location that the table names.
    """
    return {locate(file.path): file for file in opened.committed_files().files}


def row_id_bounds(file: DataFile) -> tuple[int, int]:
    """The lowest and the highest row id in a file, from the log."""
    return file.ranges[0][0], file.ranges[-1][1] - 1


def widen_schema(schema: pa.Schema, widening: Widening) -> pa.Schema:
    """Replace types at all levels of a schema; all columns may be null, since tables cannot promise more of files."""
    return pa.schema([pa.field(field.name, _widen_type(field.type, widening)) for field in schema])


def _widen_type(kind: pa.DataType, widening: Widening) -> pa.DataType:
    if pa.types.is_map(kind):
        return pa.map_(_widen_type(kind.key_type, widening), _widen_type(kind.item_type, widening))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_widen_type(kind.value_type, widening))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _widen_type(field.type, widening)) for field in kind])
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    return widening.get(kind, kind)


def s3_access_of(location: Location) -> S3Access | None:
    """How to reach the bucket of a location; None for other places, whose readers find their own way."""
    return (
        find_s3_access(location.bucket, location.options) if not location.is_local and location.scheme == "s3" else None
    )
