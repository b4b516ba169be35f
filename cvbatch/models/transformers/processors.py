"""How images are prepared for a model: what its own processor does, as a view and numbers for each channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.models.transformers.processor_table import ALWAYS, PROCESSORS, Processor, QueryRule
from cvbatch.models.transformers.resizing import parse_size

Channels = tuple[float, float, float]
_INTERPOLATIONS: Final[Mapping[Any, Literal["nearest", "bilinear", "bicubic"]]] = {
    0: "nearest",
    2: "bilinear",
    3: "bicubic",
}
"""By Pillow's numbers."""
_UNUSUAL: Final = (
    "do_pad",
    "do_thumbnail",
    "do_align_long_axis",
    "do_color_quantize",
    "keep_aspect_ratio",
    "size_divisor",
    "pad_size",
)
"""Steps that change pixels, and that none of these processors has of itself."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """How images reach a network."""

    view: View
    mean: Channels
    """Of each channel in the order of the network's channels, on a scale of 0 to 1."""
    std: Channels
    bgr: bool = False
    """Whether blue comes first."""
    queries: QueryRule | None = None
    """Of processors of detectors."""


def plan_preparation(settings: Mapping[str, Any] | None, title: str, *, covers_image: bool) -> Preparation:
    """Turn the settings of a model's processor into a view and numbers.

    Args:
        settings: Content of `preprocessor_config.json`, or None.
        title: Name of the model, for messages.
        covers_image: Whether answers cover the whole image, so that it must not be cropped.

    Raises:
        ModelError: There are no settings, or the processor does something that a view cannot.
    """
    if settings is None:
        raise ModelError(f"{title}: expected preprocessor_config.json, which says how images are prepared, got none")
    name = _class_of(settings)
    processor = PROCESSORS.get(name)
    if processor is None:
        raise ModelError(
            f"{title}: its images are prepared by {name or 'a processor without a name'}, and known are "
            f"{', '.join(PROCESSORS)}"
        )
    given = {key: value for key, value in settings.items() if value is not None}
    known = {**ALWAYS, **processor.defaults, **given}
    for key in _UNUSUAL:
        if (
            known.get(key) and key not in processor.understood and (key, processor.queries is None) != ("do_pad", False)
        ):  # an image alone is not padded
            raise ModelError(f"{title}: {key}: {known[key]} of {name} is not supported: export the model to onnx:")
    try:
        view = _plan_view(known, processor)
        mean, std = _plan_numbers(known)
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"{title}: preprocessor_config.json of {name}: {error}") from None
    if covers_image and view.crop is not None:
        raise ModelError(
            f"{title}: {name} crops images, so that its answers would not cover them: save it with do_center_crop: "
            "false and size: of height and width"
        )
    return Preparation(view, mean, std, bool(known.get("do_flip_channel_order")), processor.queries)


def _class_of(settings: Mapping[str, Any]) -> str:
    """Name of the class, without what names its implementation."""
    name = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
    name = name.removesuffix("Fast").removesuffix("Pil")
    return name.replace("FeatureExtractor", "ImageProcessor")


def _plan_view(known: Mapping[str, Any], processor: Processor) -> View:
    view = View()
    if known["do_resize"]:
        view = processor.resize(
            known, parse_size(known["size"], square=processor.square, longest=known.get("max_size"))
        )
        view = replace(view, interpolation=_parse_interpolation(known["resample"]))
    if known["do_center_crop"]:
        crop = parse_size(known["crop_size"], square=True)
        view = replace(view, crop=crop.both_sides())
    return replace(view, crop_rounding="down") if view.crop is not None else view


def _plan_numbers(known: Mapping[str, Any]) -> tuple[Channels, Channels]:
    """Mean and standard deviation on a scale of 0 to 1, of (pixel * factor - offset - mean) / std."""
    factor = 255.0 * (float(known["rescale_factor"]) if known["do_rescale"] else 1.0)
    offset = 1.0 if known.get("rescale_offset") and known["do_rescale"] else 0.0
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if known["do_normalize"]:
        mean, std = _parse_channels(known["image_mean"]), _parse_channels(known["image_std"])
    if known.get("include_top"):  # of EfficientNet: divided once more
        red, green, blue = (
            first * second for first, second in zip(std, _parse_channels(known["image_std"]), strict=True)
        )
        std = red, green, blue
    return _map_channels(lambda value: (value + offset) / factor, mean), _map_channels(
        lambda value: value / factor, std
    )


def _map_channels(change: Callable[[float], float], channels: Channels) -> Channels:
    red, green, blue = map(change, channels)
    return red, green, blue


def _parse_channels(value: Any) -> Channels:
    red, green, blue = [float(value)] * 3 if isinstance(value, int | float) else map(float, value)
    return red, green, blue


def _parse_interpolation(value: Any) -> Literal["nearest", "bilinear", "bicubic"]:
    if value not in _INTERPOLATIONS:
        raise ValueError(f"expected resample: 0 (nearest), 2 (bilinear) or 3 (bicubic), got {value!r}")
    return _INTERPOLATIONS[value]
