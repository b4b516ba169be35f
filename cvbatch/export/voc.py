"""Pascal VOC: `Annotations/NAME.xml` for each image, with boxes.

Pixels count from 1 and `xmax` is the last one inside, so that a box around the whole image is `1, 1, width, height`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pyarrow as pa

from cvbatch.export.base import Exporter, ImageBatch
from cvbatch.export.names import split_name
from cvbatch.export.texts import concatenate_by_image, join_texts, numbers_to_text, rounded_to_text, texts_to_xml

_DECIMALS: Final = 2


class VocExporter(Exporter):
    """One XML file per image."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        for batch in self.job.iter_batches():
            texts = self._annotations(batch)
            names = [f"Annotations/{split_name(name)[0]}.xml" for name in batch.names.to_pylist()]
            self.job.target.write_files(names, [text.encode() for text in texts.to_pylist()])
        return {}

    def _annotations(self, batch: ImageBatch) -> pa.Array:
        sizes = batch.sizes
        return join_texts(
            "<annotation>\n<folder></folder>\n<filename>",
            texts_to_xml(batch.names),
            "</filename>\n<source><database>cvbatch</database></source>\n<size><width>",
            numbers_to_text(sizes[:, 0]),
            "</width><height>",
            numbers_to_text(sizes[:, 1]),
            "</height><depth>3</depth></size>\n<segmented>0</segmented>\n",
            concatenate_by_image(_objects(batch), batch.offsets),
            "</annotation>\n",
        )


def _objects(batch: ImageBatch) -> pa.Array:
    elements = batch.elements.combine_chunks()
    numbers = {
        tag: rounded_to_text(elements[name].to_numpy() + shift, _DECIMALS)
        for tag, name, shift in (("xmin", "x_min", 1), ("ymin", "y_min", 1), ("xmax", "x_max", 0), ("ymax", "y_max", 0))
    }
    box = [part for tag, text in numbers.items() for part in (f"<{tag}>", text, f"</{tag}>")]
    return join_texts(
        "<object><name>",
        texts_to_xml(elements["label"]),
        "</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult><score>",
        numbers_to_text(elements["score"]),
        "</score><bndbox>",
        *box,
        "</bndbox></object>\n",
    )
