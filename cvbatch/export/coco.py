"""COCO JSON: boxes, masks as RLE or polygons, and keypoints; written as a stream."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pycocotools import mask as coco

from cvbatch.export.base import POLYGONS, Exporter, ImageBatch
from cvbatch.export.json_text import (
    Text,
    arrays_to_json,
    encode_json,
    lists_to_json,
    objects_to_json,
    texts_to_json,
)
from cvbatch.export.polygons import mask_to_polygons
from cvbatch.export.texts import numbers_to_text, write_texts
from cvbatch.schema import HEIGHT, ROW_ID, WIDTH
from cvbatch.tasks.masks import decode_mask

_LIMB_POINTS: Final = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_PERSON_POINTS: Final = [
    "nose",
    *(f"{side}_{part}" for part in ("eye", "ear", *_LIMB_POINTS) for side in ("left", "right")),
]
"""COCO's keypoints of a person, in their order."""
_LABELLED, _VISIBLE = 1, 2


class CocoExporter(Exporter):
    """Image ids are row ids; annotation ids count from 1; category ids are label ids."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        images = annotations = points = empty = 0
        with self.job.target.open_file() as file, tempfile.TemporaryFile(prefix="cvbatch-") as image_part:
            file.write(f'{{"info":{encode_json({"description": "predictions, written by cvbatch"})},\n'.encode())
            file.write(b'"licenses":[],\n"annotations":[\n')
            for batch in self.job.iter_batches():
                write_texts(image_part, images_to_json(batch), ",\n", first=not images)
                masks = CocoMasks.of_batch(batch)
                texts = objects_to_json(self._annotations(batch, masks, annotations + 1))
                write_texts(file, texts, ",\n", first=not annotations)
                images += batch.images.num_rows
                annotations += batch.elements.num_rows
                points = max(points, count_keypoints(batch))
                empty += 0 if masks is None else masks.empty
            file.write(b'\n],\n"images":[\n')
            image_part.seek(0)
            shutil.copyfileobj(image_part, file, 1 << 20)
            file.write(f'\n],\n"categories":{encode_json(self._categories(points))}}}\n'.encode())
        return {"with an empty mask": empty}

    def _categories(self, points: int) -> list[dict[str, Any]]:
        names = _PERSON_POINTS if points == len(_PERSON_POINTS) else [f"point_{number + 1}" for number in range(points)]
        keypoints = {"keypoints": names, "skeleton": []} if points else {}
        labels = enumerate(self.model.categories)
        return [{"id": label, "name": name, **keypoints} for label, name in labels if name is not None]

    def _annotations(self, batch: ImageBatch, masks: CocoMasks | None, first_id: int) -> dict[str, Text | str]:
        elements = batch.elements.combine_chunks()
        boxes = self._boxes(batch, masks)
        fields: dict[str, Text | str] = {
            "id": numbers_to_text(np.arange(first_id, first_id + elements.num_rows)),
            "image_id": numbers_to_text(batch.image_numbers(ROW_ID)[batch.image_indices]),
            "category_id": numbers_to_text(elements["label_id"]),
            "bbox": arrays_to_json([numbers_to_text(values) for values in boxes]),
            "area": numbers_to_text(boxes[2] * boxes[3] if masks is None else masks.areas()),
            "iscrowd": "0",
        }
        if masks is not None:
            is_polygons = self.job.options.masks == POLYGONS
            fields["segmentation"] = masks.polygons_to_json() if is_polygons else masks.rle_to_json()
        if "keypoints" in elements.column_names:
            fields |= keypoints_to_json(elements["keypoints"])
        if "score" in elements.column_names:
            fields["score"] = numbers_to_text(elements["score"])
        return fields

    def _boxes(self, batch: ImageBatch, masks: CocoMasks | None) -> npt.NDArray[np.floating[Any]]:
        """(4, n): x, y, width, height, of the model or around the masks."""
        if "x_min" in batch.elements.column_names:
            return box_columns(batch)
        if masks is None:
            raise TypeError(f"{self.model.alias} has neither boxes nor masks")
        return masks.boxes()


class CocoMasks:
    """Masks of a batch.

    Args:
        counts: (n,) binary: compressed counts.
        sizes: (n, 2): width and height of the image of each.
    """

    def __init__(self, counts: pa.Array, sizes: npt.NDArray[np.int64]) -> None:
        self._counts, self._sizes = counts, sizes
        self._objects = [
            {"size": [height, width], "counts": mask}
            for mask, (width, height) in zip(counts.to_pylist(), sizes.tolist(), strict=True)
        ]

    @staticmethod
    def of_batch(batch: ImageBatch) -> CocoMasks | None:
        """The masks of a batch; None if the model has none."""
        if "mask" not in batch.elements.column_names:
            return None
        counts = batch.elements["mask"].combine_chunks()
        return CocoMasks(counts, batch.sizes[batch.image_indices])

    @property
    def empty(self) -> int:
        """Number of masks without a pixel."""
        return int((self.areas() == 0).sum())

    def areas(self) -> npt.NDArray[np.int64]:
        """(n,): number of pixels."""
        from hotcoco.mask import area  # that of pycocotools 2.0.11 takes at most 255 masks under NumPy 2

        return np.asarray(area(self._objects)).astype(np.int64) if self._objects else np.zeros(0, np.int64)

    def boxes(self) -> npt.NDArray[np.float64]:
        """(4, n): x, y, width, height of the box around each."""
        return np.asarray(coco.toBbox(self._objects)).T if self._objects else np.zeros((4, 0))

    def rle_to_json(self) -> Text:
        """Compressed RLE of each."""
        counts = texts_to_json(pc.cast(self._counts, pa.string()))
        sizes = arrays_to_json([numbers_to_text(self._sizes[:, 1]), numbers_to_text(self._sizes[:, 0])])
        return objects_to_json({"size": sizes, "counts": counts})

    def polygons_to_json(self) -> Text:
        """Polygons of each; RLE of a mask without a pixel, since readers take an empty list for an error."""
        texts = self.rle_to_json().to_pylist()
        for number, mask in enumerate(self._objects):
            if polygons := mask_to_polygons(decode_mask(mask["counts"], *mask["size"])):
                texts[number] = encode_json([polygon.ravel().tolist() for polygon in polygons])
        return pa.array(texts, pa.string())


def images_to_json(batch: ImageBatch) -> Text:
    """The entries of `images`."""
    sizes = batch.sizes
    return objects_to_json(
        {
            "id": numbers_to_text(batch.image_numbers(ROW_ID)),
            "file_name": texts_to_json(batch.names),
            WIDTH: numbers_to_text(sizes[:, 0]),
            HEIGHT: numbers_to_text(sizes[:, 1]),
        }
    )


def box_columns(batch: ImageBatch) -> npt.NDArray[np.float32]:
    """(4, n): x, y, width, height of the boxes of a batch."""
    x_min, y_min, x_max, y_max = (batch.elements[name].to_numpy() for name in ("x_min", "y_min", "x_max", "y_max"))
    return np.stack([x_min, y_min, x_max - x_min, y_max - y_min])


def count_keypoints(batch: ImageBatch) -> int:
    """Keypoints of each element of a batch; 0 if there are none."""
    if "keypoints" not in batch.elements.column_names or not batch.elements.num_rows:
        return 0
    return int(pc.max(pc.list_value_length(batch.elements["keypoints"])).as_py()) // 3


def keypoints_to_json(keypoints: pa.Array) -> dict[str, Text]:
    """Keypoints with a score above 0 are visible (2), others are labelled and not visible (1).

    Args:
        keypoints: (n,) list<float32>: x, y, score of each point.
    """
    points = pc.list_flatten(keypoints).to_numpy(zero_copy_only=False).reshape(-1, 3).copy()
    points[:, 2] = np.where(points[:, 2] > 0, _VISIBLE, _LABELLED)
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(keypoints).to_numpy(zero_copy_only=False))])
    return {
        "keypoints": lists_to_json(numbers_to_text(points.ravel()), offsets),
        "num_keypoints": numbers_to_text(np.diff(offsets) // 3),
    }
