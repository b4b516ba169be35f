"""Columns and types that all predictions have, as the design lists them."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.errors import SourceError
from cvbatch.schema import EXIF_FIELDS, IMAGE_FIELDS, IMAGE_WARNING, RESERVED_COLUMNS, predictions_schema
from cvbatch.tasks import TASKS
from tests.samples import spec


def types(fields: list[pa.Field]) -> dict[str, str]:
    return {field.name: str(field.type) for field in fields}


def test_columns_of_every_image() -> None:
    assert types(list(IMAGE_FIELDS)) == {
        "row_id": "int64",
        "image_uri": "string",
        "image_bytes": "int64",
        "width": "int32",
        "height": "int32",
        "format": "string",
        "content_sha256": "string",
        "status": "string",
        "error_stage": "string",
        "error_type": "string",
        "error_message": "string",
        "error_transient": "bool",
    }


def test_order_of_the_columns() -> None:
    carried = [pa.field("mine", pa.string())]
    schema = predictions_schema(spec("x", "embedding").column_fields(), exif=True, extra_columns=carried)
    exif = [field.name for field in EXIF_FIELDS]
    assert schema.names == [*(field.name for field in IMAGE_FIELDS), *exif, "mine", "x_vector"]
    assert not set(exif) & set(predictions_schema([]).names)


def test_an_extra_column_with_the_name_of_a_model_column() -> None:
    with pytest.raises(SourceError, match=r"source\.rename: \{x_vector: my_x_vector\}"):
        predictions_schema(spec("x", "embedding").column_fields(), extra_columns=[pa.field("x_vector", pa.string())])


def test_a_warning_has_a_column_only_where_damaged_images_are_kept() -> None:
    assert IMAGE_WARNING not in predictions_schema([]).names
    assert predictions_schema([], warnings=True).field(IMAGE_WARNING).type == pa.string()
    own = [pa.field(IMAGE_WARNING, pa.int32())]
    assert predictions_schema([], extra_columns=own).field(IMAGE_WARNING).type == pa.int32()
    with pytest.raises(SourceError, match=r"damaged: keep adds; use source\.rename"):
        predictions_schema([], warnings=True, extra_columns=own)


def test_reserved_names() -> None:
    assert {"row_id", "status", "exif_camera", "source_removed"} <= RESERVED_COLUMNS


@pytest.mark.parametrize("rows", [1, 3])
def test_pandas_reads_every_column_with_and_without_nulls(tmp_path: object, rows: int) -> None:
    fields = [field for task in TASKS for field in spec(task, task, masks=True, keypoints=True).column_fields()]
    schema = predictions_schema(fields, exif=True)
    values = {"row_id": range(rows), "image_uri": ["u"] * rows, "status": ["error"] * rows}
    table = pa.table(
        [pa.array(values.get(name, [None] * rows), schema.field(name).type) for name in schema.names], schema
    )
    pq.write_table(table, f"{tmp_path}/x.parquet")
    frame = pd.read_parquet(f"{tmp_path}/x.parquet")
    assert list(frame.columns) == schema.names
    assert frame["detection_boxes"].isna().all()
