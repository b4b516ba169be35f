"""A Delta table over the files of a run: its log names them where they are."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa

from cvbatch.errors import OutputError
from cvbatch.export.base import Exporter
from cvbatch.export.registered_files import (
    RUN_KEY,
    TableChange,
    Widening,
    find_change,
    locate_files,
    row_id_bounds,
    s3_access_of,
    widen_schema,
)
from cvbatch.output.log_records import DataFile
from cvbatch.schema import ROW_ID
from cvbatch.storage.location import Location
from cvbatch.system.extras import import_extra

_WIDENING: Final[Widening] = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.duration("us"): pa.int64(),
    pa.duration("ms"): pa.int64(),
    pa.duration("s"): pa.int64(),
    pa.duration("ns"): pa.int64(),
}
"""Delta has no unsigned integers, no half floats and no durations; readers widen what the files hold."""
_FOREVER: Final = "interval 36500 days"
_SETTINGS: Final = {"delta.deletedFileRetentionDuration": _FOREVER, "delta.logRetentionDuration": _FOREVER}
"""VACUUM must never delete files, which belong to the run."""


class DeltaExporter(Exporter):
    """Creates a Delta table, or makes one that it has created name the files that are committed now.

    A table at the output, or in a folder above it, names files relatively, and all readers of Delta know that. Any
    other one names absolute locations, which the protocol allows, and which fewer readers know.
    """

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`; the change is one version of the table, or none if nothing has changed."""
        deltalake = import_extra("deltalake", "delta", "the format delta")
        place, opened = self.job.target.location, self.job.opened
        root, storage = place.uri.rstrip("/"), _storage_options(place)
        table_uri = Path(root).as_uri() if place.is_local else root  # of a plain path it would decode escapes
        wanted = locate_files(opened, lambda path: _locate_from(root, f"{opened.store.root}/{path}"))
        schema = deltalake.Schema.from_arrow(widen_schema(opened.schema, _WIDENING))
        self.job.counts.images = sum(file.row_count for file in wanted.values())
        if not deltalake.DeltaTable.is_deltatable(table_uri, storage_options=storage):
            change = find_change(wanted, ())
            self._create_table(deltalake, table_uri, schema, change, storage)
            return change.counts
        table = deltalake.DeltaTable(table_uri, storage_options=storage)
        self._check_table(table, schema)
        change = find_change(wanted, _registered_paths(table))
        if change.added or change.removed:
            self._change_table(deltalake, table, schema, change)
        return change.counts

    def _create_table(
        self, deltalake: ModuleType, table_uri: str, schema: Any, change: TableChange, storage: dict[str, str] | None
    ) -> None:
        from deltalake.transaction import create_table_with_add_actions

        try:
            create_table_with_add_actions(
                table_uri,
                schema,
                _add_actions(change),
                description=self._description,
                configuration=_SETTINGS,
                storage_options=storage,
            )
        except deltalake.exceptions.DeltaError as error:
            raise self._conflict(error) from None

    def _change_table(self, deltalake: ModuleType, table: Any, schema: Any, change: TableChange) -> None:
        from deltalake.transaction import CommitProperties, RemoveAction

        now = _milliseconds()
        removes = [RemoveAction(path, True, now) for path in change.removed]
        try:
            # without retries, because a change that another process has made meanwhile may already include this one
            properties = CommitProperties(max_commit_retries=0)
            table.create_write_transaction(
                [*_add_actions(change), *removes], "append", schema, commit_properties=properties
            )
        except deltalake.exceptions.CommitFailedError as error:
            raise self._conflict(error) from None

    @property
    def _description(self) -> str:
        return f"{RUN_KEY} {self.job.opened.plan.nonce}"

    def _check_table(self, table: Any, schema: Any) -> None:
        place = self.job.target.location
        if table.metadata().description != self._description:
            raise OutputError(
                f"{place} has another Delta table: expected none, or one of this run; choose another path"
            )
        if table.schema() != schema:
            raise OutputError(f"{place}: the columns of the run are no longer those of the table; choose another path")

    def _conflict(self, error: Exception) -> OutputError:
        first_line = str(error).splitlines()[0]
        return OutputError(f"{self.job.target.location} was changed by another process ({first_line}); export again")


def _locate_from(root: str, file: str) -> str:
    """Relative if the table is at the output or above it, because few readers know absolute locations."""
    if file.startswith(f"{root}/"):
        return file.removeprefix(f"{root}/")
    return f"file://{file}" if file.startswith("/") else file


def _registered_paths(table: Any) -> list[str]:
    """The files of a table as `_locate_from` names them; the log has them with escapes."""
    paths = pa.table(table.get_add_actions())["path"].to_pylist()
    return [unquote(path) for path in paths]


def _add_actions(change: TableChange) -> list[Any]:
    from deltalake.transaction import AddAction

    now = _milliseconds()
    return [AddAction(path, file.size, {}, now, True, _statistics(file)) for path, file in change.added.items()]


def _statistics(file: DataFile) -> str:
    low, high = row_id_bounds(file)
    return json.dumps(
        {
            "numRecords": file.row_count,
            "minValues": {ROW_ID: low},
            "maxValues": {ROW_ID: high},
            "nullCount": {ROW_ID: 0},
        }
    )


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def _storage_options(location: Location) -> dict[str, str] | None:
    """How delta-rs reaches a bucket: as we do."""
    access = s3_access_of(location)
    if access is None:
        return None
    options = {
        "aws_endpoint": access.endpoint,
        "aws_region": access.region,
        "aws_allow_http": str(access.endpoint.startswith("http://")).lower(),
        "aws_virtual_hosted_style_request": str(not access.path_style).lower(),
        "aws_conditional_put": "etag",
    }
    if access.credentials is None:
        return options | {"aws_skip_signature": "true"}
    credentials = access.credentials()
    options |= {
        "aws_access_key_id": credentials["access_key_id"],
        "aws_secret_access_key": credentials["secret_access_key"],
    }
    token = credentials.get("token")
    return options | ({"aws_session_token": token} if token else {})
