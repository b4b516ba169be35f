"""WebDataset: tars in which the bytes of an image and its labels as JSON follow each other."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from typing import IO, Final

from cvbatch.export.base import Exporter, ImageBatch
from cvbatch.export.element_json import elements_to_json
from cvbatch.export.file_series import FileSeries
from cvbatch.export.image_bytes import CONTENT_COLUMNS, BatchImages
from cvbatch.export.image_columns import find_image_columns
from cvbatch.export.json_text import Text, encode_json, objects_to_json
from cvbatch.export.nested_json import values_to_json
from cvbatch.export.vectors import vector_columns
from cvbatch.schema import ROW_ID

_IMAGES_PER_SHARD: Final = 5_000
_BATCH_ROWS: Final = 2_048


class WebDatasetExporter(Exporter):
    """The key of a sample is the row id, because keys must be unique and have no dots."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        images = BatchImages(self.job.opened)
        columns = dict.fromkeys((*find_image_columns(self.job.opened), *vector_columns(self.model), *CONTENT_COLUMNS))
        max_images = self.job.options.images_per_file or _IMAGES_PER_SHARD
        with FileSeries(self.job.target, "shard-{:06d}.tar", max_images, _open_tar) as shards:
            for batch in self.job.iter_batches(list(columns), batch_rows=_BATCH_ROWS):
                row_ids, labels = batch.image_numbers(ROW_ID), self._labels(batch)
                for image in images.iter_images(batch):
                    key, shard = f"{row_ids[image.position]:09d}", shards.add_items(1)
                    _add_member(shard, f"{key}.{image.suffix}", image.data)
                    _add_member(shard, f"{key}.json", labels[image.position].as_py().encode())
        return images.counts

    def _labels(self, batch: ImageBatch) -> Text:
        fields: dict[str, Text | str] = {
            name: values_to_json(batch.images[name].combine_chunks()) for name in batch.images.column_names
        }
        return objects_to_json({**fields, "model": encode_json(self.model.alias), "elements": elements_to_json(batch)})


@contextlib.contextmanager
def _open_tar(file: IO[bytes]) -> Iterator[tarfile.TarFile]:
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
        yield tar


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
    tar.getmembers().clear()  # else it remembers every member
