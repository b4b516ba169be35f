"""Other query engines read an output with columns of every kind and error rows."""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import yaml

from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import make_plan
from cvbatch.results import elements, predictions
from cvbatch.schema import EXIF_FIELDS, HALVES, IMAGE_FIELDS
from cvbatch.sources import open_source
from cvbatch.tasks.masks import decode_mask, encode_mask
from tests.samples import block, job, spec

MODELS: Final = [
    spec(),
    spec("boxes", "detection", masks=True, keypoints=True),
    spec("segmentation", "segmentation"),
    spec("embedding", "embedding"),
]
MASK: Final = np.array([[True, False, False], [True, True, False]])
GOOD: Final[dict[str, Any]] = {
    "width": 3,
    "height": 2,
    "exif_captured_at": 86_400_000,
    "exif_camera": "Kodak",
    "exif_latitude": -1.5,
    "exif_longitude": 0.25,
    "classification_label": "a",
    "classification_label_id": 0,
    "classification_score": 0.5,
    "classification_top_labels": ["a", "b"],
    "classification_top_label_ids": [0, 2],
    "classification_top_scores": [0.5, 0.25],
    "boxes_boxes": [[0, 1, 2, 3], [1, 1, 2, 2]],
    "boxes_labels": ["a", "b"],
    "boxes_label_ids": [0, 2],
    "boxes_scores": [0.5, 0.25],
    "boxes_masks": [encode_mask(MASK), encode_mask(~MASK)],
    "boxes_keypoints": [[1, 2, 3], [4, 5, 6]],
    "segmentation_labels": ["a", "b"],
    "segmentation_label_ids": [0, 2],
    "segmentation_areas": [0.5, 0.5],
    "segmentation_masks": [encode_mask(MASK), encode_mask(~MASK)],
    "embedding_vector": [0.5, 0.25, -1],
}
CARRIED: Final = {
    "count": pa.array([2**53 + 1, 1, None], pa.int64()),
    "name": pa.array(["é", None, "c"]),
    "day": pa.array([1, 2, None], pa.date32()),
    "at": pa.array([1, 2, None], pa.timestamp("us", tz="UTC")),
    "tags": pa.array([["x"], [], None], pa.list_(pa.string())),
}
ROWS: Final = 3


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A finished run of three rows; row 1 is an error."""
    folder = tmp_path_factory.mktemp("run")
    pq.write_table(pa.table({"uri": ["0.jpg", "1.jpg", "2.jpg"], **CARRIED}), folder / "m.parquet")
    asked = job(folder / "m.parquet", folder / "out", source={"exif": True})
    store = LocalStore(str(folder / "out"))
    plan = make_plan(store, asked, MODELS, open_source(asked.source))
    schema = rows_schema(MODELS, exif=True, extra_columns=plan.extra_columns(store))
    assert {*GOOD} | {*CARRIED} <= {*schema.names}
    rows = block(0, ROWS, *MODELS, failed=[1])
    rows = rows.drop_columns([name for name in GOOD if name in rows.column_names])
    for name, value in GOOD.items():
        rows = rows.append_column(schema.field(name), pa.array([value, None, value], schema.field(name).type))
    for name, column in CARRIED.items():
        rows = rows.append_column(name, column)
    log = CommitLog(store, plan.rows)
    log.open_epoch()
    log.commit_files(write_data_files(WriteContext(store.root, log.epoch, schema), [rows]).files)
    finish_run(log)
    return store.root


def expected(name: str) -> list[Any]:
    values = [GOOD[name], None, GOOD[name]] if name in GOOD else CARRIED[name].to_pylist()
    return [plain(value) for value in values]


def plain(value: Any) -> Any:
    """A value of any engine as Python's own."""
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, bytearray):
        return bytes(value)
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


TIMES: Final = {"exif_captured_at", "day", "at"}
"""Engines have types of their own for these."""


@pytest.mark.parametrize("backend", ["numpy", "numpy_nullable", "pyarrow"])
@pytest.mark.parametrize("place", ["", "/data"])
def test_pandas(output: str, backend: str, place: str) -> None:
    options: Any = {} if backend == "numpy" else {"dtype_backend": backend}
    frame = pd.read_parquet(output + place, **options).sort_values("row_id", ignore_index=True)
    assert frame["status"].tolist() == ["ok", "error", "ok"]
    for name in {*GOOD, *CARRIED} - TIMES:
        if (name, backend) == ("count", "numpy"):
            continue  # NumPy has no missing integers: 2**53 + 1 is none of its floats
        assert [plain(value) for value in frame[name]] == expected(name), name


@pytest.mark.parametrize("files", ["data/*.parquet", "**/*.parquet"])
def test_duckdb(output: str, files: str) -> None:
    with duckdb.connect() as connection:
        found = connection.execute(f"select * from read_parquet('{output}/{files}') order by row_id")
        names = [column[0] for column in found.description]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    for name in {*GOOD, *CARRIED} - TIMES:
        assert [plain(row[name]) for row in rows] == expected(name), name


@pytest.mark.parametrize("files", ["data", "data/*.parquet", "**/*.parquet"])
def test_polars(output: str, files: str) -> None:
    frame = pl.scan_parquet(f"{output}/{files}").sort("row_id").collect()
    for name in {*GOOD, *CARRIED} - TIMES:
        assert frame[name].to_list() == expected(name), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_spark(output: str) -> None:
    """With `pip install 'cvbatch[spark]'` and Java 17; a file with a type that Spark does not know it refuses whole."""
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed; pip install 'cvbatch[spark]'")
    builder = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    try:
        for recursive, place in (("false", f"{output}/data"), ("true", output)):
            rows = spark.read.option("recursiveFileLookup", recursive).parquet(place).orderBy("row_id").collect()
            for name in {*GOOD, *CARRIED} - TIMES:
                assert [plain(row[name]) for row in rows] == expected(name), name
    finally:
        spark.stop()


def test_whoever_goes_through_all_folders_finds_the_rows_alone(output: str) -> None:
    found = glob.glob(f"{output}/**/*.parquet", recursive=True)
    assert found == glob.glob(f"{output}/data/*.parquet")
    (config,) = yaml.safe_load((Path(output) / ".huggingface.yaml").read_text())["configs"]
    assert found == glob.glob(f"{output}/{config['data_files']}")


def types_of(kind: pa.DataType) -> Iterator[pa.DataType]:
    yield kind
    for at in range(kind.num_fields):
        yield from types_of(kind.field(at).type)


SPARK: Final = {pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string(), pa.binary()}
SPARK_TIMES: Final = {pa.timestamp("ms")}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.task)
def test_every_column_has_a_type_that_spark_reads(model: ModelSpec) -> None:
    for column in [*IMAGE_FIELDS, *EXIF_FIELDS, *model.column_fields()]:
        for kind in types_of(column.type):
            assert kind in SPARK | SPARK_TIMES or pa.types.is_list(kind), f"{column.name}: {kind}"
    assert pa.float16() in types_of(HALVES), "halves are for those who ask for them"


def test_no_job_of_ours_asks_for_halves() -> None:
    paths = [*Path("jobs").glob("**/*.yaml")]
    assert paths
    for path in paths:
        models = yaml.safe_load(path.read_text()).get("models") or []
        assert not [model for model in models if model.get("dtype") == "float16"], path


def test_integers_stay_integers(output: str) -> None:
    frame = predictions.read(output)
    assert frame[["width", "height", "count"]].dtypes.astype(str).tolist() == ["Int32", "Int32", "Int64"]
    assert frame["count"].tolist() == [2**53 + 1, 1, pd.NA]
    assert frame["row_id"].dtype == np.int64
    assert pd.isna(frame["width"][1])
    boxes, segments = elements.read_detections(output, "boxes"), elements.read_segments(output)
    assert boxes["label_id"].dtype == segments["label_id"].dtype == np.int32
    assert segments[["width", "height"]].dtypes.tolist() == [np.int32, np.int32]
    for at, row in enumerate(segments.itertuples()):
        assert (decode_mask(row.mask, row.height, row.width) == (~MASK if at % 2 else MASK)).all()


def test_integers_without_a_gap_are_numpys(output: str) -> None:
    some = predictions.read(output, columns=["width"], filter=pads.field("status") == "ok")
    assert some["width"].dtype == np.int32
