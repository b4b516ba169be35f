"""The keys that describe a graph, in `options:` of a job or in a YAML file beside the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

import yaml
from pydantic import Field, ValidationError

from cvbatch.config.compute import ConfigSection
from cvbatch.config.error_messages import explain_validation_errors
from cvbatch.errors import ModelError
from cvbatch.models.graphs.reading import BoxFormat, BoxUnits, Head, Layout

Preset: TypeAlias = Literal["imagenet", "unit", "symmetric", "raw", "caffe", "yolo", "nanodet", "detr"]
Fit: TypeAlias = Literal["crop", "stretch", "letterbox", "letterbox-top-left", "keep"]
_Channels = tuple[float, float, float]
_Side = Annotated[int, Field(gt=0)]


class GraphKeys(ConfigSection):
    """Everything that can be said about a graph; what is not said is read from the file, or has a default."""

    task: str | None = None
    """In the YAML file; a job says it beside the model."""
    categories: tuple[str, ...] | Mapping[int, str] | str | None = None
    """In the YAML file; a list, names by label id, a file, or `imagenet-1k`, `coco-80`, `coco-91`."""
    licence: str | None = None
    preprocess: Preset | None = None
    """A known way to prepare images; the keys below change parts of it."""
    fit: Fit | None = None
    """How an image becomes as large as the graph wants it."""
    size: _Side | tuple[_Side, _Side] | None = None
    """(height, width) for graphs that take any."""
    resize: _Side | None = None
    """Shorter side, in pixels, before a crop, or of images that keep their proportions."""
    longer: _Side | None = None
    """Most pixels of the longer side of images that keep their proportions."""
    stride: _Side | None = None
    """Of a letterbox for a graph that takes any size: its sides are multiples of it, no larger than the image needs."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "linear"] | None = None
    fill: tuple[int, int, int] | None = None
    """RGB of what a letterbox leaves free."""
    layout: Layout | None = None
    channels: Literal["rgb", "bgr"] | None = None
    scale: Annotated[float, Field(gt=0)] | None = None
    mean: _Channels | None = None
    std: _Channels | None = None
    head: Head | Literal["detr"] | None = None
    outputs: Mapping[str, str] | None = None
    scores: Literal["probabilities", "logits", "sigmoid", "softmax"] | None = None
    """`logits` become probabilities by softmax, for boxes by sigmoid."""
    box_format: BoxFormat | None = None
    box_units: BoxUnits | None = None
    keypoints: tuple[_Side, Literal[2, 3]] | None = None
    """Number of keypoints of an object, and numbers of each: x, y and perhaps a score."""
    overlap: Annotated[float, Field(gt=0, le=1)] | Literal[False] | None = None
    """For the suppression of boxes that overlap; false where the graph does it."""

    def replaced_by(self, other: GraphKeys) -> GraphKeys:
        """These keys, with those that another one says."""
        return GraphKeys(**{**self._said(), **other._said()})

    def _said(self) -> dict[str, Any]:
        return {name: value for name in self.model_fields_set if (value := getattr(self, name)) is not None}


JOB_KEYS = ("task", "categories")
"""Keys of the YAML file that have their own place in a job."""


def parse_keys(data: Any, where: str) -> GraphKeys:
    """Check keys.

    Args:
        data: From a job, or from YAML.
        where: Names them in the error.

    Raises:
        ModelError: They are no mapping, or one of them is wrong.
    """
    if not isinstance(data, Mapping):
        raise ModelError(f"{where}: expected a mapping of keys, such as `preprocess: imagenet`, got {data!r:.60}")
    try:
        return GraphKeys.model_validate(
            {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}
        )
    except ValidationError as error:
        raise ModelError(f"{where}: {'; '.join(explain_validation_errors(error.errors(), GraphKeys))}") from None


def parse_key_file(text: str, where: str) -> GraphKeys:
    """Read the YAML file beside a model.

    Raises:
        ModelError: It is not YAML, or a key is wrong.
    """
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ModelError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    return parse_keys({} if data is None else data, where)
