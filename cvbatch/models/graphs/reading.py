"""How a graph is fed and how its outputs are read: what the workers need to know, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Layout = Literal["nchw", "nhwc", "chw"]
Scores = Literal["probabilities", "sigmoid", "softmax"]
BoxFormat = Literal["xyxy", "xywh", "cxcywh", "yxyx"]
BoxUnits = Literal["pixels", "fractions"]
Head = Literal["scores", "vector", "pixel_scores", "class_map", "yolo", "yolov5", "rows", "boxes", "nanodet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphReading:
    """Complete; it is stored as the `options` of a spec."""

    layout: Layout
    """`chw` is one image without a batch."""
    channels: Literal["rgb", "bgr"] = "rgb"
    scale: float = 255.0
    """What pixels of 0 to 255 are divided by, before mean and std."""
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    """Of each channel, in the order of the graph's channels."""
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    batch: int | None = None
    """Images that the graph takes at once; None for any number."""
    head: Head
    """How the outputs are read; see `cvbatch.models.graphs.heads`."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Name of the output for each role, such as `boxes`."""
    scores: Scores = "probabilities"
    """What is still to be done to the scores."""
    classes: int | None = None
    """Number of scores for each image, box or pixel; None where a graph gives label ids."""
    last_is_background: bool = False
    """Whether the last of the scores means that there is nothing."""
    best_class: bool = False
    """Whether a box has its best class only."""
    box_format: BoxFormat = "xyxy"
    box_units: BoxUnits = "pixels"
    """Of the frame that the graph sees."""
    keypoints: tuple[int, int] | None = None
    """Number of keypoints of a box, and numbers of each: x, y and perhaps a score; None without keypoints."""
    overlap: float | None = None
    """Intersection over union from which the weaker of two boxes of one class is dropped; None keeps all."""

    def to_options(self) -> dict[str, Any]:
        """Plain JSON data, as earlier versions wrote it where there are no keypoints."""
        plain = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return plain if self.keypoints else {key: value for key, value in plain.items() if key != "keypoints"}

    @staticmethod
    def from_options(options: Mapping[str, Any]) -> GraphReading:
        """The inverse of `to_options`."""
        fields: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
        }
        return GraphReading(**fields)
