"""How a network of timm is built: what the workers need to know, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TimmReading:
    """Complete; it is stored as the `options` of a spec."""

    architecture: str
    """Name in timm's registry, without a tag."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `timm.create_model`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """`PretrainedCfg` of the weights, without their origin and names of classes."""
    classes: int
    """Number of outputs; 0 for a network without a head."""
    own_weights: bool = False
    """Whether the weights are a checkpoint of the user, and not published ones in timm's own format."""
    revision: str | None = None
    """Commit of the hub; None for a folder."""
    mean: tuple[float, float, float]
    """Of each channel, on a scale of 0 to 1."""
    std: tuple[float, float, float]

    def to_options(self) -> dict[str, Any]:
        """Plain JSON data."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_options(options: Mapping[str, Any]) -> TimmReading:
        """The inverse of `to_options`."""
        tuples = {key: tuple(options[key]) for key in ("mean", "std")}
        return TimmReading(**{**options, **tuples})
