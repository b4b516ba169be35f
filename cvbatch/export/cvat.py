"""CVAT for images 1.1: `annotations-00000.xml` and so on, each for a task of its own.

CVAT's own form of masks is used: runs along the rows of the box around the mask.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final
from xml.sax.saxutils import escape

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.export.base import NO_MASKS, POLYGONS, Exporter
from cvbatch.export.image_batch import ImageBatch, number_files
from cvbatch.export.mask_forms import decode_masks, row_runs
from cvbatch.export.polygons import mask_to_polygons
from cvbatch.export.texts import (
    concatenate_by_image,
    join_texts,
    numbers_to_text,
    rounded_to_text,
    texts_to_xml,
    write_texts,
)
from cvbatch.tasks.masks import Mask

_IMAGES_PER_FILE: Final = 5000
_DECIMALS: Final = 2
"""As CVAT writes them."""
EMPTY: Final = "left out: empty mask"


class CvatExporter(Exporter):
    """Images are numbered from 0 in each file; CVAT finds them by their names."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        self._empty = 0
        images_per_file = self.job.options.images_per_file or _IMAGES_PER_FILE
        numbered = number_files(self.job.iter_batches(), images_per_file)
        for number, batches in itertools.groupby(numbered, key=lambda pair: pair[0]):
            with self.job.target.open_file(f"annotations-{number:05d}.xml") as file:
                file.write(self._head().encode())
                first_id = 0
                for _, batch in batches:
                    write_texts(file, self._images(batch, first_id))
                    first_id += batch.images.num_rows
                file.write(b"</annotations>\n")
        return {EMPTY: self._empty}

    def _head(self) -> str:
        names = [escape(name) for name in self.model.categories if name is not None]
        labels = "".join(f"<label><name>{name}</name><attributes></attributes></label>\n" for name in names)
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n<meta><task>\n'
            f"<name>cvbatch</name>\n<mode>annotation</mode>\n<labels>\n{labels}</labels>\n</task></meta>\n"
        )

    def _images(self, batch: ImageBatch, first_id: int) -> pa.Array:
        sizes, count = batch.sizes, batch.images.num_rows
        return join_texts(
            '<image id="',
            numbers_to_text(np.arange(first_id, first_id + count)),
            '" name="',
            texts_to_xml(batch.names),
            '" width="',
            numbers_to_text(sizes[:, 0]),
            '" height="',
            numbers_to_text(sizes[:, 1]),
            '">\n',
            concatenate_by_image(self._shapes(batch), batch.offsets),
            "</image>\n",
        )

    def _shapes(self, batch: ImageBatch) -> pa.Array:
        """What each element becomes; several shapes of one object have one group."""
        names = batch.elements.column_names
        labels = texts_to_xml(batch.elements["label"].combine_chunks())
        if "mask" in names and self.job.options.masks != NO_MASKS:
            return self._mask_shapes(batch, labels)
        if "x_min" not in names:
            return join_texts('<tag label="', labels, '" source="auto"></tag>\n')
        boxes = _box_shapes(batch, labels)
        return join_texts(boxes, _point_shapes(batch, labels)) if "keypoints" in names else boxes

    def _mask_shapes(self, batch: ImageBatch, labels: pa.Array) -> pa.Array:
        write = _polygon_shapes if self.job.options.masks == POLYGONS else _run_shape
        groups = (batch.element_positions + 1).tolist()
        texts = [
            write(mask, label, group) if mask.any() else ""
            for mask, label, group in zip(decode_masks(batch), labels.to_pylist(), groups, strict=True)
        ]
        self._empty += texts.count("")
        return pa.array(texts, pa.string())


def _box_shapes(batch: ImageBatch, labels: pa.Array) -> pa.Array:
    columns = [batch.elements[name].to_numpy() for name in ("x_min", "y_min", "x_max", "y_max")]
    edges = [rounded_to_text(values, _DECIMALS) for values in columns]
    texts = [
        part for name, edge in zip(("xtl", "ytl", "xbr", "ybr"), edges, strict=True) for part in (f'" {name}="', edge)
    ]
    return join_texts(
        '<box label="',
        labels,
        '" source="auto" occluded="0',
        *texts,
        '" z_order="0" group_id="',
        numbers_to_text(batch.element_positions + 1),
        '"></box>\n',
    )


def _point_shapes(batch: ImageBatch, labels: pa.Array) -> pa.Array:
    """The keypoints of each box, in its group."""
    keypoints = batch.elements["keypoints"].combine_chunks()
    numbers = pc.list_flatten(keypoints).to_numpy(zero_copy_only=False).reshape(-1, 3)
    pairs = join_texts(rounded_to_text(numbers[:, 0], _DECIMALS), ",", rounded_to_text(numbers[:, 1], _DECIMALS))
    counts = pc.list_value_length(keypoints).to_numpy(zero_copy_only=False) // 3
    points = concatenate_by_image(pairs, np.concatenate([[0], np.cumsum(counts)]), ";")
    groups = numbers_to_text(batch.element_positions + 1)
    start, middle = '<points label="', '" source="auto" occluded="0" points="'
    return join_texts(start, labels, middle, points, '" z_order="0" group_id="', groups, '"></points>\n')


def _run_shape(mask: Mask, label: str, group: int) -> str:
    """Runs along the rows of the box around a mask; the first run is outside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    runs = ", ".join(map(str, row_runs(part).tolist()))
    return (
        f'<mask label="{label}" source="auto" occluded="0" rle="{runs}" left="{columns[0]}" top="{rows[0]}" '
        f'width="{part.shape[1]}" height="{part.shape[0]}" z_order="0" group_id="{group}"></mask>\n'
    )


def _polygon_shapes(mask: Mask, label: str, group: int) -> str:
    """A polygon for each part of a mask."""
    points = (";".join(f"{x},{y}" for x, y in polygon.tolist()) for polygon in mask_to_polygons(mask))
    start = f'<polygon label="{label}" source="auto" occluded="0" points="'
    end = f'" z_order="0" group_id="{group}"></polygon>\n'
    return "".join(f"{start}{text}{end}" for text in points)
