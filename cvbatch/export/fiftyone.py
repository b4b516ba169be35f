"""FiftyOne's dataset on disk: one JSON file that names the images, for `fiftyone.Dataset.from_dir`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import pyarrow as pa

from cvbatch.errors import UsageError
from cvbatch.export.base import Exporter, ImageBatch
from cvbatch.export.fiftyone_labels import TASK_LABELS
from cvbatch.export.image_bytes import CONTENT_COLUMNS, BatchImages
from cvbatch.export.image_columns import find_image_columns
from cvbatch.export.json_text import Text, encode_json, objects_to_json, texts_to_json
from cvbatch.export.nested_json import values_to_json
from cvbatch.export.texts import numbers_to_text, write_texts
from cvbatch.export.vectors import vector_columns
from cvbatch.schema import HEIGHT, IMAGE_URI, ROW_ID, WIDTH

PATHS: Final = "paths"
COPY: Final = "copy"
_RESERVED: Final = frozenset({"id", "filepath", "tags", "metadata", "created_at", "last_modified_at", "media_type"})
"""Fields that every sample of FiftyOne has."""


class FiftyOneExporter(Exporter):
    """The layout of FiftyOne before 0.8, which names no version of its database, so that every later one reads it."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        how = self.job.options.images or PATHS
        if how not in (PATHS, COPY):
            raise UsageError(f"images: expected {PATHS} or {COPY}, got {how}")
        planned, labels = BatchImages(self.job.opened), TASK_LABELS[self.model.task]
        columns = find_image_columns(self.job.opened)
        asked = dict.fromkeys((*columns, *vector_columns(self.model), *CONTENT_COLUMNS))
        with self.job.target.open_file("metadata.json") as file:
            file.write(encode_json({"media_type": "image", "info": labels.describe(self.model)}).encode() + b"\n")
        samples = 0
        with self.job.target.open_file("samples.json") as file:
            file.write(b'{"samples":[\n')
            for batch in self.job.iter_batches(list(asked)):
                fields = {**self._image_fields(batch, columns), **labels.make_fields(batch, self.model)}
                for positions, paths in self._locate_images(planned, batch, how):
                    chosen = {name: values.take(positions) for name, values in fields.items()}
                    located = {"filepath": texts_to_json(paths), "tags": "[]", **chosen}
                    write_texts(file, objects_to_json(located), ",\n", first=not samples)
                    samples += len(paths)
            file.write(b"\n]}\n")
        return planned.counts

    def _locate_images(self, planned: BatchImages, batch: ImageBatch, how: str) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Positions in the batch, with the paths of these images."""
        if how == PATHS:
            files = planned.find_files(batch, f"--images {COPY}")
            yield pa.array(range(len(files)), pa.int64()), pa.array(files, pa.string())
            return
        positions, paths, row_ids = list[int](), list[str](), batch.image_numbers(ROW_ID)
        for image in planned.iter_images(batch):
            path = f"data/{row_ids[image.position]:09d}.{image.suffix}"
            with self.job.target.open_file(path) as file:
                file.write(image.data)
            positions.append(image.position)
            paths.append(path)
        yield pa.array(positions, pa.int64()), pa.array(paths, pa.string())

    def _image_fields(self, batch: ImageBatch, columns: list[str]) -> dict[str, Text]:
        sizes = {name: numbers_to_text(batch.image_numbers(name)) for name in (WIDTH, HEIGHT)}
        taken = {*_RESERVED, *(model.alias for model in self.job.opened.plan.models)}
        others = {
            f"source_{name}" if name in taken else name: values_to_json(batch.images[name].combine_chunks())
            for name in (ROW_ID, IMAGE_URI, *columns)
        }
        return {"metadata": objects_to_json({"_cls": '"ImageMetadata"', **sizes}), **others}
