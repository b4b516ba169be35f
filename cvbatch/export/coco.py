"""COCO JSON: boxes, masks as RLE or polygons, and keypoints; written as a stream."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping

import numpy as np

from cvbatch.export.base import Exporter, ImageBatch
from cvbatch.export.json_text import (
    Text,
    arrays_to_json,
    encode_json,
    numbers_to_json,
    objects_to_json,
    texts_to_json,
    write_texts,
)
from cvbatch.schema import HEIGHT, ROW_ID, WIDTH


class CocoExporter(Exporter):
    """Image ids are row ids; annotation ids count from 1; category ids are label ids."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        images = annotations = 0
        with self.job.target.open_file() as file, tempfile.TemporaryFile(prefix="cvbatch-") as image_part:
            file.write(f'{{"info":{encode_json({"description": "cvbatch"})},\n"licenses":[],\n'.encode())
            file.write(f'"categories":{encode_json(self._categories())},\n"annotations":[\n'.encode())
            for batch in self.job.iter_batches():
                write_texts(image_part, images_to_json(batch), first=not images)
                write_texts(file, self._annotations(batch, annotations + 1), first=not annotations)
                images += batch.images.num_rows
                annotations += batch.elements.num_rows
            file.write(b'\n],\n"images":[\n')
            image_part.seek(0)
            shutil.copyfileobj(image_part, file, 1 << 20)
            file.write(b"\n]}\n")
        return {}

    def _categories(self) -> list[dict[str, object]]:
        return [{"id": label, "name": name} for label, name in enumerate(self.model.categories) if name is not None]

    def _annotations(self, batch: ImageBatch, first_id: int) -> Text:
        elements = batch.elements
        low, high = (np.stack([elements[f"{axis}_{end}"].to_numpy() for axis in "xy"]) for end in ("min", "max"))
        sizes = high - low
        return objects_to_json(
            {
                "id": numbers_to_json(np.arange(first_id, first_id + elements.num_rows)),
                "image_id": numbers_to_json(batch.image_numbers(ROW_ID)[batch.image_indices]),
                "category_id": numbers_to_json(elements["label_id"].combine_chunks()),
                "bbox": arrays_to_json([numbers_to_json(values) for values in (*low, *sizes)]),
                "area": numbers_to_json(sizes[0] * sizes[1]),
                "iscrowd": "0",
                "score": numbers_to_json(elements["score"].combine_chunks()),
            }
        )


def images_to_json(batch: ImageBatch) -> Text:
    """The entries of `images`."""
    sizes = batch.sizes
    return objects_to_json(
        {
            "id": numbers_to_json(batch.image_numbers(ROW_ID)),
            "file_name": texts_to_json(batch.names),
            WIDTH: numbers_to_json(sizes[:, 0]),
            HEIGHT: numbers_to_json(sizes[:, 1]),
        }
    )
