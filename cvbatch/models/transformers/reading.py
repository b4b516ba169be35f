"""How a network of transformers is built and read: what the workers need to know, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, Final, Literal

Head = Literal[
    "classes",
    "pooled",
    "projected",
    "image_features",
    "pixels",
    "queries",
    "prompts",
    "prompted_patches",
    "grounded",
    "depths",
    "overlapping_masks",
    "exclusive_masks",
    "masks_to_pixels",
]
Activation = Literal["softmax", "sigmoid", "best_sigmoid"]
_FIRST: Final = frozenset(
    ("architecture", "config", "revision", "head", "activation", "most_boxes", "mean", "std", "bgr")
)
"""Fields that every record has; later ones are left out at their defaults, so that they change no run."""


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
    threshold: float | None = None
    """Score below which boxes are dropped, unless the job says another; None is that of other detectors."""
    square: bool = False
    """Whether boxes are fractions of the longer side of an image, which lies at the top left of a square."""
    template: str | None = None
    """See `prompts.PromptTokens`, as the next two."""
    tokens: list[list[int]] = field(default_factory=list)
    owners: list[list[int]] = field(default_factory=list)

    def to_options(self) -> dict[str, Any]:
        """Plain JSON data."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in values.items() if key in _FIRST or value != _DEFAULTS[key]}

    @staticmethod
    def from_options(options: Mapping[str, Any]) -> TransformersReading:
        """The inverse of `to_options`."""
        tuples = {key: tuple(options[key]) for key in ("mean", "std")}
        return TransformersReading(**{**options, **tuples})


_DEFAULTS: Final = {
    one.name: one.default if one.default_factory is MISSING else one.default_factory()
    for one in fields(TransformersReading)
}
