"""YOLO: `data.yaml`, `labels/NAME.txt` for each image, and `images/NAME`, a link to the image if it is a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from cvbatch.errors import UsageError
from cvbatch.export.base import NO_MASKS, RLE, Exporter, ExportJob, ImageBatch
from cvbatch.export.mask_forms import decode_masks, join_polygons
from cvbatch.export.names import split_name
from cvbatch.export.polygons import mask_to_polygons
from cvbatch.export.texts import concatenate_by_image, join_texts, rounded_to_text
from cvbatch.schema import IMAGE_URI

_DECIMALS: Final = 8
"""A thousandth of a pixel of an image with 100,000."""
OUTSIDE: Final = "left out: outside the image"
EMPTY: Final = "left out: empty mask"


class YoloExporter(Exporter):
    """Classes are numbered from 0 in the order of the label ids, without those that are never emitted."""

    def __init__(self, job: ExportJob) -> None:
        super().__init__(job)
        if job.options.masks == RLE:
            raise UsageError("the format yolo has no rle: expected --masks polygons or none")
        self._label_ids = [label for label, name in enumerate(self.model.categories) if name is not None]
        self._classes = np.zeros(len(self.model.categories), np.int64)
        self._classes[self._label_ids] = np.arange(len(self._label_ids))

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        notes = {OUTSIDE: 0, EMPTY: 0, "without a link to the image": 0}
        has_masks = self.job.options.masks != NO_MASKS
        for batch in self.job.iter_batches():
            if has_masks and "mask" in batch.elements.column_names:
                lines, notes_of_batch = self._polygon_lines(batch), EMPTY
            else:
                lines, notes_of_batch = self._box_lines(batch), OUTSIDE
            notes[notes_of_batch] += lines.null_count
            texts = concatenate_by_image(lines.fill_null(""), batch.offsets)
            stems = [split_name(name)[0] for name in batch.names.to_pylist()]
            names = [f"labels/{stem}.txt" for stem in stems]
            self.job.target.write_files(names, [text.encode() for text in texts.to_pylist()])
            notes["without a link to the image"] += self._link_images(batch)
        with self.job.target.open_file("data.yaml") as file:
            file.write(self._description())
        return notes

    def _description(self) -> bytes:
        names = {number: self.model.categories[label] for number, label in enumerate(self._label_ids)}
        data = {"train": "images", "val": "images", "nc": len(names), "names": names}
        text: str = yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=1 << 20)
        return text.encode()

    def _class_texts(self, batch: ImageBatch) -> pa.Array:
        return pa.array(self._classes[batch.elements["label_id"].to_numpy()]).cast(pa.string())

    def _box_lines(self, batch: ImageBatch) -> pa.Array:
        """Class, centre and size of each box inside its image, as shares; null where nothing of it is inside."""
        columns = batch.elements.column_names
        if "x_min" not in columns:
            raise UsageError(f"{self.model.alias} has no boxes: expected --masks polygons")
        corners = np.stack([batch.elements[name].to_numpy() for name in ("x_min", "y_min", "x_max", "y_max")], axis=1)
        shares = np.clip(corners.astype(np.float64) / np.tile(batch.sizes[batch.image_indices], 2), 0, 1)
        low, size = shares[:, :2], shares[:, 2:] - shares[:, :2]
        numbers = [rounded_to_text(values, _DECIMALS) for values in np.concatenate([low + size / 2, size], axis=1).T]
        lines = join_texts(*_with_spaces([self._class_texts(batch), *numbers]), "\n")
        return pc.if_else(pa.array((size > 0).all(axis=1)), lines, None)

    def _polygon_lines(self, batch: ImageBatch) -> pa.Array:
        """Class and corners of each mask, as shares; null for an empty mask."""
        sizes = batch.sizes[batch.image_indices]
        texts = [
            _polygon_text(join_polygons(polygons) / size) if (polygons := mask_to_polygons(mask)) else None
            for mask, size in zip(decode_masks(batch), sizes, strict=True)
        ]
        return join_texts(self._class_texts(batch), " ", pa.array(texts, pa.string()), "\n")

    def _link_images(self, batch: ImageBatch) -> int:
        """Link to the images that are files, unless the export is in a bucket; returns how many have no link."""
        uris, names = batch.images[IMAGE_URI].to_pylist(), batch.names.to_pylist()
        if not self.job.target.location.is_local:
            return len(uris)
        folder = os.path.join(self.job.target.folder, "images")
        pairs = zip(uris, names, strict=True)
        links = [(uri, os.path.join(folder, name)) for uri, name in pairs if os.path.isfile(uri)]
        for folder in {os.path.dirname(link) for _, link in links}:
            os.makedirs(folder, exist_ok=True)
        for uri, link in links:
            os.symlink(uri, link)
        return len(uris) - len(links)


def _with_spaces(columns: list[pa.Array]) -> list[pa.Array | str]:
    return [part for column in columns for part in (" ", column)][1:]


def _polygon_text(points: npt.NDArray[np.float64]) -> str:
    return " ".join(f"{number:.{_DECIMALS}g}" for number in points.ravel().tolist())
