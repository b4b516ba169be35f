"""An Iceberg table over the files of a run, with a catalogue in one SQLite file beside its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import pyarrow as pa

from cvbatch.errors import OutputError, UsageError
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

CATALOGUE: Final = "catalog.db"
TABLE: Final = ("cvbatch", "predictions")
"""Namespace and name of the table in the catalogue."""
_WIDENING: Final[Widening] = {pa.uint32(): pa.int64(), pa.float16(): pa.float32()}
"""Iceberg has no unsigned integers and no half floats; pyiceberg itself widens the other types that it can."""


class IcebergExporter(Exporter):
    """Creates an Iceberg table, or makes one that it has created name the files that are committed now."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`; the change is one snapshot of the table, or none if nothing has changed."""
        import_extra("pyiceberg.catalog.sql", "iceberg", "the format iceberg")
        root = self.job.opened.store.root
        wanted = locate_files(self.job.opened, lambda path: f"{root}/{path}")
        self.job.counts.images = sum(file.row_count for file in wanted.values())
        with closing(self._open_catalogue()) as catalogue:
            table = self._open_table(catalogue)
            registered = {task.file.file_path: task.file for task in table.scan().plan_files()}
            change = find_change(wanted, registered)
            if change.added or change.removed:
                self._change_table(table, change, registered)
        return change.counts

    def _open_catalogue(self) -> Any:
        from pyiceberg.catalog.sql import SqlCatalog
        from sqlalchemy.exc import DatabaseError

        folder = self.job.target.folder
        properties = _storage_properties(self.job.opened.location)
        try:
            return SqlCatalog(TABLE[0], uri=f"sqlite:///{folder}/{CATALOGUE}", warehouse=folder, **properties)
        except DatabaseError as error:
            raise OutputError(
                f"{folder}/{CATALOGUE}: expected a catalogue of Iceberg or nothing ({error.orig})"
            ) from None

    def _open_table(self, catalogue: Any) -> Any:
        from pyiceberg.exceptions import NoSuchTableError

        catalogue.create_namespace_if_not_exists(TABLE[0])
        try:
            table = catalogue.load_table(TABLE)
        except NoSuchTableError:
            return self._create_table(catalogue)
        if table.properties.get(RUN_KEY) != self.job.opened.plan.nonce:
            place = self.job.target.location
            raise OutputError(
                f"{place} has the table of another run: expected none, or this run's; choose another path"
            )
        return table

    def _create_table(self, catalogue: Any) -> Any:
        from pyiceberg.io.pyarrow import UnsupportedPyArrowTypeException
        from pyiceberg.table import TableProperties

        schema = widen_schema(self.job.opened.schema, _WIDENING)
        try:
            with catalogue.create_table_transaction(
                TABLE, schema, properties={RUN_KEY: self.job.opened.plan.nonce}
            ) as transaction:
                # the files of the run have no field ids, so their columns are found by name
                mapping = transaction.table_metadata.schema().name_mapping.model_dump_json()
                transaction.set_properties(**{TableProperties.DEFAULT_NAME_MAPPING: mapping})
        except UnsupportedPyArrowTypeException as error:
            raise UsageError(f"Iceberg cannot hold the run: {error}; delta can") from None
        return catalogue.load_table(TABLE)

    def _change_table(self, table: Any, change: TableChange, registered: Mapping[str, Any]) -> None:
        from pyiceberg.exceptions import CommitFailedException, ValidationException

        row_id_field = table.schema().find_field(ROW_ID).field_id
        try:
            with table.transaction() as transaction, transaction.update_snapshot().overwrite() as snapshot:
                for path in change.removed:
                    snapshot.delete_data_file(registered[path])
                for path, file in change.added.items():
                    snapshot.append_data_file(_to_iceberg_file(path, file, row_id_field))
        except (CommitFailedException, ValidationException) as error:
            first_line = str(error).splitlines()[0]
            place = self.job.target.location
            raise OutputError(f"{place} was changed by another process ({first_line}); export again") from None


def _to_iceberg_file(path: str, file: DataFile, row_id_field: int) -> Any:
    """What Iceberg knows of a file: taken from our log, so that no file needs to be opened."""
    from pyiceberg.conversions import to_bytes
    from pyiceberg.manifest import DataFile as IcebergFile
    from pyiceberg.manifest import DataFileContent, FileFormat
    from pyiceberg.typedef import Record
    from pyiceberg.types import LongType

    low, high = row_id_bounds(file)
    return IcebergFile.from_args(
        content=DataFileContent.DATA,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=file.row_count,
        file_size_in_bytes=file.size,
        lower_bounds={row_id_field: to_bytes(LongType(), low)},
        upper_bounds={row_id_field: to_bytes(LongType(), high)},
        spec_id=0,
    )


def _storage_properties(location: Location) -> dict[str, str]:
    """How pyiceberg reaches the bucket of the run: as we do."""
    access = s3_access_of(location)
    if access is None:
        return {}
    properties = {
        "s3.endpoint": access.endpoint,
        "s3.region": access.region,
        "s3.force-virtual-addressing": str(not access.path_style).lower(),
    }
    if access.credentials is None:
        return properties | {"s3.anonymous": "true"}
    credentials = access.credentials()
    token = credentials.get("token")
    return properties | {
        "s3.access-key-id": credentials["access_key_id"],
        "s3.secret-access-key": credentials["secret_access_key"],
        **({"s3.session-token": token} if token else {}),
    }
