"""Label Studio: `tasks-00000.json` and so on with pre-annotations, and `config.xml`, the labelling interface."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from cvbatch.export.base import NO_MASKS, POLYGONS, Exporter
from cvbatch.export.image_batch import ImageBatch, number_files
from cvbatch.export.json_text import encode_json
from cvbatch.export.label_studio_runs import encode_brush
from cvbatch.export.mask_forms import decode_masks
from cvbatch.export.polygons import mask_to_polygons
from cvbatch.schema import HEIGHT, IMAGE_URI, ROW_ID, WIDTH
from cvbatch.storage.location import is_object_uri
from cvbatch.tasks.masks import Mask

_IMAGES_PER_FILE: Final = 2000
_BATCH_ROWS: Final = 128
"""Images at once: a region is a Python object, and a brush a list of thousands of numbers."""
_LOCAL_FILES: Final = "/data/local-files/?d="
"""Label Studio's own address of files below LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT."""
_PERCENT: Final = 100.0
_POINT_WIDTH: Final = 0.5
"""Of a keypoint on the screen, in percent of the image's width."""
EMPTY: Final = "left out: empty mask"
_KINDS: Final = {
    "rectanglelabels": "RectangleLabels",
    "brushlabels": "BrushLabels",
    "polygonlabels": "PolygonLabels",
    "keypointlabels": "KeyPointLabels",
    "choices": "Choices",
}
"""Tags of the labelling interface by the type of a result."""


class LabelStudioExporter(Exporter):
    """Places are in percent of the upright image, as Label Studio shows it."""

    def export(self) -> Mapping[str, int]:
        """See `Exporter.export`."""
        self._empty = 0
        self._kinds = set[str]()
        self._points = 0
        images_per_file = self.job.options.images_per_file or _IMAGES_PER_FILE
        numbered = number_files(self.job.iter_batches(batch_rows=_BATCH_ROWS), images_per_file)
        for number, batches in itertools.groupby(numbered, key=lambda pair: pair[0]):
            with self.job.target.open_file(f"tasks-{number:05d}.json") as file:
                separator = "[\n"
                for task in (task for _, batch in batches for task in self._tasks(batch)):
                    file.write((separator + encode_json(task)).encode())
                    separator = ",\n"
                file.write(b"\n]\n")
        with self.job.target.open_file("config.xml") as file:
            file.write(self._interface().encode())
        return {EMPTY: self._empty}

    def _tasks(self, batch: ImageBatch) -> Iterator[dict[str, Any]]:
        regions = self._regions(batch)
        uris, row_ids = batch.images[IMAGE_URI].to_pylist(), batch.image_numbers(ROW_ID).tolist()
        scores = batch.elements["score"].to_numpy() if "score" in batch.elements.column_names else None
        for index, name in enumerate(batch.names.to_pylist()):
            first, last = batch.offsets[index], batch.offsets[index + 1]
            prediction: dict[str, Any] = {"model_version": f"{self.model.alias}: {self.model.name}"}
            if scores is not None and last > first:
                prediction["score"] = float(scores[first:last].mean())
            prediction["result"] = [region for number in range(first, last) for region in regions[number]]
            data = {"image": self._address(uris[index], name), "name": name, ROW_ID: row_ids[index]}
            yield {"data": data, "predictions": [prediction]}

    def _address(self, uri: str, name: str) -> str:
        """Where Label Studio finds an image: on the web or in a bucket where it is, else below its folder of files."""
        prefix = self.job.options.image_prefix
        if prefix is None and (is_object_uri(uri) or uri.startswith(("http://", "https://"))):
            return uri
        return f"{_LOCAL_FILES if prefix is None else prefix}{quote(name)}"

    def _regions(self, batch: ImageBatch) -> list[list[dict[str, Any]]]:
        """The regions of each element."""
        columns = batch.elements.column_names
        sizes = batch.sizes[batch.image_indices].tolist()
        labels = batch.elements["label"].to_pylist()
        if "mask" in columns and self.job.options.masks != NO_MASKS:
            make = self._polygons if self.job.options.masks == POLYGONS else self._brush
            regions = [make(*of_element) for of_element in zip(decode_masks(batch), labels, strict=True)]
        elif "x_min" in columns:
            regions = self._boxes(batch, labels)
        else:
            regions = [[self._region("choices", {"choices": [label]})] for label in labels]
        scores = batch.elements["score"].to_pylist() if "score" in columns else [None] * len(labels)
        positions = batch.element_positions.tolist()
        for number, of_element in enumerate(regions):
            self._finish(of_element, positions[number], sizes[number], scores[number])
        return regions

    def _finish(self, regions: list[dict[str, Any]], position: int, size: list[int], score: float | None) -> None:
        """Add what all regions of an element have."""
        for number, region in enumerate(regions):
            region["id"] = f"{position}" if not number else f"{position}_{number}"
            region |= {"original_width": size[0], "original_height": size[1], "image_rotation": 0}
            if score is not None:
                region["score"] = score
            if region["type"] == "keypointlabels":
                region["parentID"] = f"{position}"

    def _region(self, kind: str, value: dict[str, Any]) -> dict[str, Any]:
        self._kinds.add(kind)
        return {"type": kind, "from_name": kind, "to_name": "image", "value": value}

    def _boxes(self, batch: ImageBatch, labels: list[str]) -> list[list[dict[str, Any]]]:
        """A rectangle for each box, with its keypoints."""
        corners = np.stack([batch.elements[name].to_numpy() for name in ("x_min", "y_min", "x_max", "y_max")], axis=1)
        sizes = batch.sizes[batch.image_indices]
        shares = corners.astype(np.float64) / np.tile(sizes, 2) * _PERCENT
        shares[:, 2:] -= shares[:, :2]
        regions = []
        for label, (x, y, width, height) in zip(labels, shares.tolist(), strict=True):
            value = {"x": x, "y": y, WIDTH: width, HEIGHT: height, "rotation": 0, "rectanglelabels": [label]}
            regions.append([self._region("rectanglelabels", value)])
        if "keypoints" in batch.elements.column_names:
            for of_element, points, size in zip(regions, batch.elements["keypoints"].to_pylist(), sizes, strict=True):
                of_element += self._keypoints(np.array(points, np.float64).reshape(-1, 3)[:, :2] / size * _PERCENT)
        return regions

    def _keypoints(self, shares: Any) -> list[dict[str, Any]]:
        self._points = max(self._points, len(shares))
        values = [
            {"x": x, "y": y, WIDTH: _POINT_WIDTH, "keypointlabels": [f"point_{number + 1}"]}
            for number, (x, y) in enumerate(shares.tolist())
        ]
        return [self._region("keypointlabels", value) for value in values]

    def _brush(self, mask: Mask, label: str) -> list[dict[str, Any]]:
        if not mask.any():
            self._empty += 1
            return []
        return [self._region("brushlabels", {"format": "rle", "rle": encode_brush(mask), "brushlabels": [label]})]

    def _polygons(self, mask: Mask, label: str) -> list[dict[str, Any]]:
        """A polygon for each part of a mask."""
        height, width = mask.shape
        polygons = mask_to_polygons(mask)
        self._empty += not polygons
        values = [
            {"points": (polygon / (width, height) * _PERCENT).tolist(), "closed": True, "polygonlabels": [label]}
            for polygon in polygons
        ]
        return [self._region("polygonlabels", value) for value in values]

    def _interface(self) -> str:
        """The labelling interface, with all classes of the model."""
        names = [name for name in self.model.categories if name is not None]
        parts = ["<View>", '<Image name="image" value="$image"/>']
        for kind in sorted(self._kinds):
            tag = _KINDS[kind]
            child = "Choice" if kind == "choices" else "Label"
            values = [f"point_{number + 1}" for number in range(self._points)] if kind == "keypointlabels" else names
            parts += [f'<{tag} name="{kind}" toName="image">']
            parts += [f"<{child} value={quoteattr(value)}/>" for value in values]
            parts += [f"</{tag}>"]
        return "\n".join([*parts, "</View>", ""])
