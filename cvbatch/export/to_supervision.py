"""Boxes and masks as `supervision.Detections`, image by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cvbatch.export.base import FormatOptions
from cvbatch.export.element_json import EDGES
from cvbatch.export.names import NO_NAMES
from cvbatch.export.reading import Chosen, RunExport, choose_model
from cvbatch.export.targets import NO_TARGET
from cvbatch.results.committed import Output, Storage, open_output
from cvbatch.results.where import Where
from cvbatch.schema import IMAGE_URI
from cvbatch.system.extras import import_extra
from cvbatch.tasks import DETECTION, SEGMENTATION
from cvbatch.tasks.masks import decode_mask

if TYPE_CHECKING:
    from supervision import Detections

_NO_KEYPOINTS: Final = np.zeros((0, 0, 3), np.float32)


def to_supervision(
    output: Output,
    *,
    model: str | None = None,
    where: Where = None,
    classes: Sequence[str | int] | None = None,
    min_score: float | None = None,
    storage: Storage = None,
) -> Iterator[tuple[str, Detections]]:
    """Iterate over the images of a run as `supervision.Detections`, in memory that does not grow with the run.

    Args:
        output: The output location.
        model: Column prefix of a detection or segmentation model; None if only one could be meant.
        where: Only images for which this holds, such as `"width > 1000"`.
        classes: Only elements of these categories, by name or id; images without any stay in.
        min_score: Elements with a lower score are left out (segments: with a smaller share of the pixels).
        storage: As for `read`.

    Yields:
        `image_uri`, and its boxes: `xyxy` (n, 4) float32 in pixels of the upright image, `class_id` (n,), `confidence`
        (n,), `mask` (n, height, width) bool if the model has masks, `data["class_name"]`, and `data["keypoints"]`
        (n, keypoints, 3) with x, y and score if it has those. Segments have the boxes around their masks. Failed and
        removed images are left out.

    Raises:
        OutputError: If there is no run, or no such model.
        UsageError: If a class or the condition is wrong, or supervision is missing.
    """
    supervision = import_extra("supervision", "supervision", "to_supervision")
    opened, chosen = open_output(output, storage), Chosen(where=where, classes=classes, min_score=min_score)
    spec = choose_model(opened, (DETECTION, SEGMENTATION), model)
    job = RunExport(opened=opened, model=spec, target=NO_TARGET, options=FormatOptions(), chosen=chosen, names=NO_NAMES)
    return _iter_detections(supervision, job)


def _iter_detections(supervision: ModuleType, job: RunExport) -> Iterator[tuple[str, Detections]]:
    for batch in job.iter_batches():
        uris, bounds, sizes = batch.images[IMAGE_URI].to_pylist(), batch.offsets.tolist(), batch.sizes.tolist()
        for position, (uri, size) in enumerate(zip(uris, sizes, strict=True)):
            elements = batch.elements.slice(bounds[position], bounds[position + 1] - bounds[position])
            yield uri, _to_detections(supervision, elements, size)


def _to_detections(supervision: ModuleType, elements: pa.Table, size: tuple[int, int]) -> Detections:
    width, height = size
    names, fields, data = elements.column_names, dict[str, Any](), dict[str, Any]()
    if "mask" in names:
        masks = [decode_mask(counts, height, width) for counts in elements["mask"].to_pylist()]
        fields["mask"] = np.stack(masks) if masks else np.zeros((0, height, width), np.bool_)
    if EDGES[0] in names:
        fields["xyxy"] = np.stack([elements[edge].to_numpy() for edge in EDGES], axis=1)
        fields["confidence"] = elements["score"].to_numpy()
    else:
        fields["xyxy"] = supervision.mask_to_xyxy(fields["mask"], "exclusive").astype(np.float32)
        data["area"] = elements["area"].to_numpy()
    if "keypoints" in names:
        data["keypoints"] = _stack_keypoints(elements["keypoints"].to_pylist())
    data["class_name"] = elements["label"].to_numpy()
    detections: Detections = supervision.Detections(
        **fields, class_id=elements["label_id"].to_numpy().astype(np.int64), data=data
    )
    return detections


def _stack_keypoints(rows: list[list[float]]) -> npt.NDArray[np.float32]:
    keypoints: npt.NDArray[np.float32] = np.array(rows, np.float32).reshape(len(rows), -1, 3) if rows else _NO_KEYPOINTS
    return keypoints
