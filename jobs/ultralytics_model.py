"""Checkpoints of Ultralytics (YOLOv8, YOLO11, RT-DETR …) by their own package, for boxes, masks and keypoints.

    pip install 'cvbatch[ultralytics]'
    cvbatch run jobs/ultralytics.yaml --source PHOTOS --output LABELS

Ultralytics and its weights are under the AGPL-3.0, or a licence that you buy. A checkpoint is a pickle, and their
package runs what is in it: take only files that you trust. Without their package, and faster:
`yolo export model=yolo11n.pt format=onnx`, and `--model onnx:yolo11n.onnx`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cvbatch import Detections, View
from cvbatch.inference.python.protocol import Image, Size


class Ultralytics:
    """Boxes, and masks or keypoints if the checkpoint is of a model for them.

    Args:
        weights: The checkpoint.
        size: Pixels of the longer side that the network sees.
        lowest_score: Boxes below it are dropped.
        overlap: Intersection over union from which the weaker of two boxes is dropped.
    """

    task = "detection"
    view = View()  # whole images: their package prepares them itself
    licence = "AGPL-3.0"

    def __init__(self, weights: str, size: int = 640, lowest_score: float = 0.05, overlap: float = 0.7) -> None:
        from ultralytics import YOLO

        self._model = YOLO(weights)
        self._options = {"imgsz": size, "conf": lowest_score, "iou": overlap, "retina_masks": True, "verbose": False}
        self.categories: Mapping[int, str] = dict(self._model.names)
        self.masks = self._model.task == "segment"
        self.keypoints = self._model.task == "pose"
        if self._model.task not in ("detect", "segment", "pose"):
            raise ValueError(f"expected a checkpoint for detect, segment or pose, got one for {self._model.task}")

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> list[Detections]:
        """The detections of each image; their package wants blue first."""
        results = self._model.predict([np.ascontiguousarray(image[..., ::-1]) for image in images], **self._options)
        return [self._read(result, image.shape[:2]) for result, image in zip(results, images, strict=True)]

    def _read(self, result: Any, size: tuple[int, ...]) -> Detections:
        found = result.boxes.cpu().numpy()
        kept = (found.xyxy[:, :2] < found.xyxy[:, 2:]).all(axis=1)
        masks = points = None
        if self.masks:
            drawn = np.zeros((0, *size), bool) if result.masks is None else result.masks.data.cpu().numpy() > 0.5
            masks = drawn[kept]
        if self.keypoints:
            points = result.keypoints.data.cpu().numpy()[kept]
        return Detections(
            boxes=found.xyxy[kept],
            label_ids=found.cls[kept].astype(int),
            scores=found.conf[kept],
            masks=masks,
            keypoints=points,
        )
