"""How images are prepared for a model of timm: its data configuration as a view."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from cvbatch.errors import ModelError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View

Channels = tuple[float, float, float]
_DEFAULTS: Final[Mapping[str, Any]] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.875,
    "crop_mode": "center",
}
"""Of `timm.data.resolve_data_config`."""
_INTERPOLATIONS: Final[Mapping[str, Literal["nearest", "bilinear", "bicubic"]]] = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}


@dataclass(frozen=True, slots=True)
class TimmPreparation:
    """How images reach a network."""

    view: View
    mean: Channels
    """Of each channel, on a scale of 0 to 1."""
    std: Channels


def plan_preparation(settings: Mapping[str, Any], title: str) -> TimmPreparation:
    """Do what `timm.data.create_transform(**timm.data.resolve_model_data_config(model))` does.

    Args:
        settings: `PretrainedCfg` of the model.
        title: Name of the model, for messages.

    Raises:
        ModelError: A setting is wrong, or asks for something that a view cannot do.
    """
    known = {**_DEFAULTS, **{key: value for key, value in settings.items() if key in _DEFAULTS and value}}
    try:
        channels, height, width = map(int, known["input_size"])
        share = float(known["crop_pct"])
        mean, std = _parse_channels(known["mean"]), _parse_channels(known["std"])
    except (TypeError, ValueError) as error:
        raise ModelError(f"{title}: its data configuration cannot be read: {error}") from None
    if channels != 3:
        raise ModelError(f"{title}: expected a model of RGB images, got one of {channels} channels")
    if known["interpolation"] not in _INTERPOLATIONS:
        raise ModelError(
            f"{title}: expected interpolation: {', '.join(_INTERPOLATIONS)}, got {known['interpolation']!r}"
        )
    return TimmPreparation(_plan_view(known, (height, width), share, mean, title), mean, std)


def _plan_view(known: Mapping[str, Any], size: tuple[int, int], share: float, mean: Channels, title: str) -> View:
    interpolation, mode = _INTERPOLATIONS[known["interpolation"]], known["crop_mode"]
    height, width = (math.floor(side / share) for side in size)
    if mode == "squash":
        return View(resize=(height, width), crop=size, interpolation=interpolation)
    if mode == "center" and height == width:
        return View(resize=height, crop=size, interpolation=interpolation)
    if mode == "border" and (height, width) == size:
        red, green, blue = (round(255 * value) for value in mean)
        letterbox = Letterbox(size=size, centred=True, fill=(red, green, blue))
        return View(letterbox=letterbox, interpolation=interpolation)
    raise ModelError(
        f"{title}: crop_mode: {mode} with crop_pct: {share:g} for {size[0]} × {size[1]} pixels is not supported: "
        "expected center for squares, squash, or border with crop_pct: 1"
    )


def _parse_channels(value: Any) -> Channels:
    red, green, blue = [float(value)] * 3 if isinstance(value, int | float) else map(float, value)
    return red, green, blue
