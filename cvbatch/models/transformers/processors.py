"""How images are prepared for a model: what its own processor does, as a view and numbers for each channel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from cvbatch.errors import ModelError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View

Channels = tuple[float, float, float]
_INTERPOLATIONS: Final[Mapping[Any, Literal["nearest", "bilinear", "bicubic"]]] = {
    0: "nearest",
    2: "bilinear",
    3: "bicubic",
}
"""By Pillow's numbers."""
_STANDARD: Final = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_IMAGENET: Final = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP: Final = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
_ALWAYS: Final = {
    "do_resize": True,
    "do_center_crop": False,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "resample": 2,
}
_BICUBIC: Final = {"resample": 3}
_CROPS_224: Final = {"do_center_crop": True, "crop_size": 224}
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


_SIZES: Final = "height and width, or with shortest_edge"
_WHOLE_FROM: Final = 384
"""Shorter side from which ConvNeXt sees whole images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """Lengths in pixels under the names that processors have for them."""

    height: int | None = None
    width: int | None = None
    shortest_edge: int | None = None
    longest_edge: int | None = None

    def both_sides(self) -> tuple[int, int]:
        """(height, width).

        Raises:
            ValueError: They are not given.
        """
        if not self.height or not self.width:
            raise ValueError(f"expected size: with {_SIZES}, got {self}")
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class Preparation:
    """How images reach a network."""

    view: View
    mean: Channels
    """Of each channel in the order of the network's channels, on a scale of 0 to 1."""
    std: Channels
    bgr: bool = False
    """Whether blue comes first."""


@dataclass(frozen=True, slots=True)
class _Processor:
    """A class of processors."""

    defaults: Mapping[str, Any]
    resize: Callable[[Mapping[str, Any], Lengths], View]
    square: bool = True
    """Whether a size of one number means both sides, and not the shorter one."""
    ignores: tuple[str, ...] = ()
    """Those of `_UNUSUAL` that make no difference for an image alone."""


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
    processor = _PROCESSORS.get(name)
    if processor is None:
        raise ModelError(
            f"{title}: its images are prepared by {name or 'a processor without a name'}, and known are "
            f"{', '.join(_PROCESSORS)}"
        )
    given = {key: value for key, value in settings.items() if value is not None}
    known = {**_ALWAYS, **processor.defaults, **given}
    for key in _UNUSUAL:
        if known.get(key) and key not in processor.ignores:
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
    return Preparation(view, mean, std, bool(known.get("do_flip_channel_order")))


def _class_of(settings: Mapping[str, Any]) -> str:
    """Name of the class, without what names its implementation."""
    name = str(settings.get("image_processor_type") or settings.get("feature_extractor_type") or "")
    name = name.removesuffix("Fast").removesuffix("Pil")
    return name.replace("FeatureExtractor", "ImageProcessor")


def _plan_view(known: Mapping[str, Any], processor: _Processor) -> View:
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


def parse_size(value: Any, *, square: bool, longest: int | None = None) -> Lengths:
    """Lengths of an image as a processor of any version writes them.

    Args:
        value: A number, (height, width), or a mapping.
        square: Whether a number means both sides.
        longest: Most pixels of the longer side, where a number means the shorter one.

    Raises:
        ValueError: It is none of these.
        TypeError: The mapping has another key.
    """
    if isinstance(value, Mapping):
        return Lengths(**{str(key): int(length) for key, length in value.items() if length is not None})
    if isinstance(value, int):
        return Lengths(height=value, width=value) if square else Lengths(shortest_edge=value, longest_edge=longest)
    if isinstance(value, list) and len(value) == 2:
        return Lengths(height=int(value[0]), width=int(value[1]))
    raise ValueError(f"expected size: with {_SIZES}, got {value!r}")


def _resize_plainly(known: Mapping[str, Any], size: Lengths) -> View:
    if size.shortest_edge and size.longest_edge:
        letterbox = Letterbox(shorter=size.shortest_edge, longer=size.longest_edge, rounding="shorter_first")
        return View(letterbox=letterbox)
    if size.shortest_edge:
        return View(resize=size.shortest_edge)
    return View(resize=size.both_sides())


def _resize_by_share(known: Mapping[str, Any], size: Lengths) -> View:
    """ConvNeXt: a crop of a share of the shorter side up to 383 pixels, from 384 on all of the image."""
    shorter = size.shortest_edge
    if not shorter:
        raise ValueError(f"expected size: with shortest_edge, got {size}")
    if shorter >= _WHOLE_FROM:
        return View(resize=(shorter, shorter))
    return View(resize=int(shorter / known["crop_pct"]), crop=(shorter, shorter))


def _resize_larger(known: Mapping[str, Any], size: Lengths) -> View:
    """LeViT, PoolFormer: the shorter side is larger than the crop by a share."""
    shorter = size.shortest_edge
    if "crop_pct" in known and not shorter and size.height == size.width:
        shorter = size.height
    if not shorter:
        return _resize_plainly(known, size)
    return View(resize=int(shorter / known["crop_pct"]) if "crop_pct" in known else int((256 / 224) * shorter))


_PROCESSORS: Final[Mapping[str, _Processor]] = {
    "ViTImageProcessor": _Processor({"size": 224, **_STANDARD}, _resize_plainly),
    "DeiTImageProcessor": _Processor({"size": 256, **_CROPS_224, **_BICUBIC, **_STANDARD}, _resize_plainly),
    "BeitImageProcessor": _Processor({"size": 224, "crop_size": 224, **_BICUBIC, **_STANDARD}, _resize_plainly),
    "BitImageProcessor": _Processor({"size": 224, **_CROPS_224, **_BICUBIC, **_CLIP}, _resize_plainly, square=False),
    "BlipImageProcessor": _Processor({"size": 384, **_BICUBIC, **_CLIP}, _resize_plainly),
    "ChineseCLIPImageProcessor": _Processor(
        {"size": 224, **_CROPS_224, **_BICUBIC, **_CLIP}, _resize_plainly, square=False
    ),
    "CLIPImageProcessor": _Processor({"size": 224, **_CROPS_224, **_BICUBIC, **_CLIP}, _resize_plainly, square=False),
    "ConvNextImageProcessor": _Processor(
        {"size": 384, "crop_pct": 224 / 256, **_BICUBIC, **_STANDARD}, _resize_by_share, square=False
    ),
    "EfficientNetImageProcessor": _Processor(
        {"size": 346, "crop_size": 289, "include_top": True, **_BICUBIC, **_STANDARD}, _resize_plainly
    ),
    "LevitImageProcessor": _Processor(
        {"size": 224, **_CROPS_224, **_BICUBIC, **_IMAGENET}, _resize_larger, square=False
    ),
    "MobileNetV1ImageProcessor": _Processor({"size": 256, **_CROPS_224, **_STANDARD}, _resize_plainly, square=False),
    "MobileNetV2ImageProcessor": _Processor({"size": 256, **_CROPS_224, **_STANDARD}, _resize_plainly, square=False),
    "MobileViTImageProcessor": _Processor(
        {
            "size": 224,
            "do_center_crop": True,
            "crop_size": 256,
            "do_normalize": False,
            "do_flip_channel_order": True,
            **_BICUBIC,
        },
        _resize_plainly,
        square=False,
    ),
    "PoolFormerImageProcessor": _Processor(
        {"size": 224, "crop_pct": 0.9, **_CROPS_224, **_BICUBIC, **_IMAGENET}, _resize_larger, square=False
    ),
    "PvtImageProcessor": _Processor({"size": 224, **_BICUBIC, **_IMAGENET}, _resize_plainly),
    "SegformerImageProcessor": _Processor({"size": 512, **_IMAGENET}, _resize_plainly),
    "SiglipImageProcessor": _Processor({"size": 224, **_BICUBIC, **_STANDARD}, _resize_plainly),
}
"""With the defaults of transformers' own classes, for settings that a model leaves out."""
