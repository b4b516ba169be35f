"""Hugging Face `datasets`: Parquet files whose features are classes, boxes and images, not just numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cvbatch.errors import UsageError
from cvbatch.export.base import Exporter, ImageBatch
from cvbatch.export.dataset_features import TASK_FEATURES
from cvbatch.export.file_series import FileSeries
from cvbatch.export.image_bytes import CONTENT_COLUMNS, BatchImages
from cvbatch.export.image_columns import BATCH_COLUMNS, find_image_columns
from cvbatch.export.vectors import vector_columns
from cvbatch.system.extras import import_extra

PATHS: Final = "paths"
BYTES: Final = "bytes"
_IMAGES_PER_FILE: Final = {PATHS: 100_000, BYTES: 5_000}
_BATCH_ROWS: Final = {PATHS: None, BYTES: 512}
_MAX_GROUP_BYTES: Final = 32 << 20
"""Most bytes of images in one row group, unless a single image is larger."""
_IMAGE: Final = "image"


class HuggingFaceExporter(Exporter):
    """`datasets.load_dataset(FOLDER)` reads it; all images are in the split `train`."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        how = self.job.options.images or PATHS
        if how not in _IMAGES_PER_FILE:
            raise UsageError(f"images: expected {PATHS} or {BYTES}, got {how}")
        datasets = import_extra("datasets", "huggingface", "the format huggingface")
        answers = TASK_FEATURES[self.model.task]
        features = {_IMAGE: datasets.Image(), **answers.features(datasets, self.model)}
        columns, left_out = self._find_columns(datasets, features)
        schema = datasets.Features(
            {**features, **{name: feature for name, (_, feature) in columns.items()}}
        ).arrow_schema
        planned = BatchImages(self.job.opened)
        add_images = {PATHS: _add_paths, BYTES: _add_bytes}[how]
        asked = [*find_image_columns(self.job.opened), *vector_columns(self.model), *CONTENT_COLUMNS]
        max_images = self.job.options.images_per_file or _IMAGES_PER_FILE[how]
        with FileSeries(self.job.target, "data/train-{:05d}.parquet", max_images, _open_parquet(schema)) as files:
            for batch in self.job.iter_batches(list(dict.fromkeys(asked)), batch_rows=_BATCH_ROWS[how]):
                arrays = {**answers.arrays(batch, self.model)}
                arrays |= {name: batch.images[stored] for name, (stored, _) in columns.items()}
                for table in add_images(planned, batch, pa.table(arrays)):
                    _write_table(files, table.select(schema.names).cast(schema))
            if files.is_empty:
                files.add_items(0)
        return {**planned.counts, **left_out}

    def _find_columns(
        self, datasets: ModuleType, taken: Mapping[str, Any]
    ) -> tuple[dict[str, tuple[str, Any]], dict[str, int]]:
        """Columns of the images: by the name of the feature the stored name and the feature; and what is left out."""
        columns, left_out = dict[str, tuple[str, Any]](), 0
        for stored in (*BATCH_COLUMNS, *find_image_columns(self.job.opened)):
            try:
                found = datasets.Features.from_arrow_schema(pa.schema([self.job.opened.schema.field(stored)]))
            except ValueError:
                left_out += 1
            else:
                columns[f"source_{stored}" if stored in taken else stored] = stored, found[stored]
        return columns, {"columns without a feature": left_out} if left_out else {}


def _add_paths(planned: BatchImages, batch: ImageBatch, rows: pa.Table) -> Iterator[pa.Table]:
    paths = pa.array(planned.find_files(batch, f"--images {BYTES}"), pa.string())
    yield rows.append_column(_IMAGE, _image_values(pa.nulls(len(paths), pa.binary()), paths))


def _add_bytes(planned: BatchImages, batch: ImageBatch, rows: pa.Table) -> Iterator[pa.Table]:
    positions, contents, size = list[int](), list[bytes](), 0

    def finish_rows() -> pa.Table:
        names = batch.names.take(pa.array(positions, pa.int64()))
        return rows.take(positions).append_column(_IMAGE, _image_values(pa.array(contents, pa.binary()), names))

    for image in planned.iter_images(batch):
        if contents and size + len(image.data) > _MAX_GROUP_BYTES:
            yield finish_rows()
            positions, contents, size = [], [], 0
        positions.append(image.position)
        contents.append(image.data)
        size += len(image.data)
    if contents:
        yield finish_rows()


def _image_values(contents: pa.Array, paths: pa.Array) -> pa.StructArray:
    return pa.StructArray.from_arrays([contents, paths], names=["bytes", "path"])


def _open_parquet(schema: pa.Schema) -> Callable[[IO[bytes]], contextlib.AbstractContextManager[pq.ParquetWriter]]:
    return lambda file: pq.ParquetWriter(file, schema, compression="zstd")


def _write_table(files: FileSeries[pq.ParquetWriter], table: pa.Table) -> None:
    while table.num_rows:
        part = table.slice(0, files.room)
        files.add_items(part.num_rows).write_table(part)
        table = table.slice(part.num_rows)
