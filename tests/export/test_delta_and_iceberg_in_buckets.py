"""Tables over the files of a run in a bucket, with a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from cvbatch.export.exporting import export_predictions
from cvbatch.output.store import open_store
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.rigs.objects import ObjectServer
from tests.samples import planned_in, started, write

ROWS = 20


@pytest.fixture
def output(out: str, as_job: ObjectServer, tmp_path: Path) -> Location:
    """A run of one file in a bucket."""
    location = Location.from_uri(f"s3://{out}/labels", StorageOptions(endpoint_url=as_job.endpoint))
    store = open_store(location)
    planned_in(store, tmp_path, ROWS)
    log = started(store, ROWS)
    log.commit_files(write(log, 0, ROWS))
    return location


def test_a_delta_table_at_the_run(output: Location, as_job: ObjectServer) -> None:
    deltalake = pytest.importorskip("deltalake")
    assert export_predictions(output, "delta", output).notes == {"files added": 1, "files removed": 0}
    assert export_predictions(output, "delta", output).notes == {"files added": 0, "files removed": 0}
    options = {"aws_endpoint": as_job.endpoint, "aws_allow_http": "true", "aws_region": "us-east-1"}
    table = deltalake.DeltaTable(output.uri, storage_options=options)
    assert sorted(table.to_pyarrow_table()["row_id"].to_pylist()) == list(range(ROWS))


def test_an_iceberg_table_on_a_disk_over_files_in_a_bucket(
    output: Location, as_job: ObjectServer, tmp_path: Path
) -> None:
    sql = pytest.importorskip("pyiceberg.catalog.sql")
    to = str(tmp_path / "table")
    assert export_predictions(output, "iceberg", to).notes == {"files added": 1, "files removed": 0}
    catalogue = sql.SqlCatalog("cvbatch", uri=f"sqlite:///{to}/catalog.db", **{"s3.endpoint": as_job.endpoint})
    rows = catalogue.load_table("cvbatch.predictions").scan().to_arrow()
    catalogue.close()
    assert sorted(rows["row_id"].to_pylist()) == list(range(ROWS))
