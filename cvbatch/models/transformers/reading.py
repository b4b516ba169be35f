"""How a network of transformers is built and read: what the workers need to know, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Head = Literal["classes", "pooled", "projected", "image_features", "pixels", "queries"]
Activation = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersReading:
    """Complete; it is stored as the `options` of a spec."""

    architecture: str
    """Class of transformers."""
    config: Mapping[str, Any]
    """Content of `config.json`, without the names of classes."""
    revision: str | None
    """Commit of the hub; None for a folder."""
    head: Head
    """How the outputs are read."""
    activation: Activation = "softmax"
    """What makes probabilities of the scores; for queries see `processors.QueryRule`."""
    most_boxes: int | None = None
    """Of an image; None is as many as there are queries."""
    mean: tuple[float, float, float]
    """Of each channel in the order of the network's channels, on a scale of 0 to 1."""
    std: tuple[float, float, float]
    bgr: bool = False
    """Whether blue comes first."""

    def to_options(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_options(options: Mapping[str, Any]) -> TransformersReading:
        """The inverse of `to_options`."""
        tuples = {key: tuple(options[key]) for key in ("mean", "std")}
        return TransformersReading(**{**options, **tuples})
