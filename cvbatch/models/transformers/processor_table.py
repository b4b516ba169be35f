"""The classes of processors that are known, with the defaults of transformers for settings that a model leaves out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cvbatch.images.preprocess import View
from cvbatch.models.transformers.reading import Activation
from cvbatch.models.transformers.resizing import (
    Lengths,
    resize_by_share,
    resize_in_square,
    resize_larger,
    resize_plainly,
    resize_to_larger_multiples,
    resize_to_multiples,
    resize_to_patches,
)

_STANDARD: Final = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
_IMAGENET: Final = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_CLIP: Final = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
ALWAYS: Final = {
    "do_resize": True,
    "do_center_crop": False,
    "do_rescale": True,
    "do_normalize": True,
    "rescale_factor": 1 / 255,
    "resample": 2,
}
_BICUBIC: Final = {"resample": 3}
_CROPS_224: Final = {"do_center_crop": True, "crop_size": 224}
_DIVISOR: Final = frozenset(("size_divisor",))
_MOST_PAIRS: Final = 10_000
"""Most pairs of patch and prompt of an image that are candidates for boxes."""
_MASKS: Final = {"size": 800, "max_size": 1333, "size_divisor": 32, **_IMAGENET}
_DETR: Final = {"size": 800, "max_size": 1333, **_IMAGENET}


@dataclass(frozen=True, slots=True)
class QueryRule:
    """How a processor makes boxes of the queries of a detector."""

    activation: Activation
    """A softmax has a last score for "nothing", and a query is one box; otherwise any class of any query is one, or the
    best class of each."""
    most: int | None = None
    """Most boxes of an image; None is as many as there are queries."""
    threshold: float | None = None
    """Score below which boxes are dropped, unless the job says another; None is that of other detectors."""
    square: bool = False
    """Whether boxes are fractions of the longer side of an image, which lies at the top left of a square."""


@dataclass(frozen=True, slots=True)
class Processor:
    """A class of processors."""

    defaults: Mapping[str, Any]
    resize: Callable[[Mapping[str, Any], Lengths], View]
    square: bool = True
    """Whether a size of one number means both sides, and not the shorter one."""
    queries: QueryRule | None = None
    understood: frozenset[str] = frozenset()
    """Settings that change pixels, as `resize` does."""


PROCESSORS: Final[Mapping[str, Processor]] = {
    "ViTImageProcessor": Processor({"size": 224, **_STANDARD}, resize_plainly),
    "DeiTImageProcessor": Processor({"size": 256, **_CROPS_224, **_BICUBIC, **_STANDARD}, resize_plainly),
    "BeitImageProcessor": Processor({"size": 224, "crop_size": 224, **_BICUBIC, **_STANDARD}, resize_plainly),
    "BitImageProcessor": Processor({"size": 224, **_CROPS_224, **_BICUBIC, **_CLIP}, resize_plainly, square=False),
    "BlipImageProcessor": Processor({"size": 384, **_BICUBIC, **_CLIP}, resize_plainly),
    "ChineseCLIPImageProcessor": Processor(
        {"size": 224, **_CROPS_224, **_BICUBIC, **_CLIP}, resize_plainly, square=False
    ),
    "CLIPImageProcessor": Processor({"size": 224, **_CROPS_224, **_BICUBIC, **_CLIP}, resize_plainly, square=False),
    "ConvNextImageProcessor": Processor(
        {"size": 384, "crop_pct": 224 / 256, **_BICUBIC, **_STANDARD}, resize_by_share, square=False
    ),
    "ConditionalDetrImageProcessor": Processor(_DETR, resize_plainly, square=False, queries=QueryRule("sigmoid", 100)),
    "DeformableDetrImageProcessor": Processor(_DETR, resize_plainly, square=False, queries=QueryRule("sigmoid", 100)),
    "DetrImageProcessor": Processor(_DETR, resize_plainly, square=False, queries=QueryRule("softmax")),
    "DPTImageProcessor": Processor(
        {"size": 384, "ensure_multiple_of": 1, "keep_aspect_ratio": False, **_BICUBIC, **_STANDARD},
        resize_to_multiples,
        understood=frozenset(("keep_aspect_ratio",)),
    ),
    "EfficientNetImageProcessor": Processor(
        {"size": 346, "crop_size": 289, "include_top": True, **_BICUBIC, **_STANDARD}, resize_plainly
    ),
    "GroundingDinoImageProcessor": Processor(
        _DETR, resize_plainly, square=False, queries=QueryRule("best_sigmoid", threshold=0.25)
    ),
    "LevitImageProcessor": Processor({"size": 224, **_CROPS_224, **_BICUBIC, **_IMAGENET}, resize_larger, square=False),
    "Mask2FormerImageProcessor": Processor(_MASKS, resize_to_larger_multiples, square=False, understood=_DIVISOR),
    "MaskFormerImageProcessor": Processor(_MASKS, resize_to_larger_multiples, square=False, understood=_DIVISOR),
    "MobileNetV1ImageProcessor": Processor({"size": 256, **_CROPS_224, **_STANDARD}, resize_plainly, square=False),
    "MobileNetV2ImageProcessor": Processor({"size": 256, **_CROPS_224, **_STANDARD}, resize_plainly, square=False),
    "MobileViTImageProcessor": Processor(
        {
            "size": 224,
            "do_center_crop": True,
            "crop_size": 256,
            "do_normalize": False,
            "do_flip_channel_order": True,
            **_BICUBIC,
        },
        resize_plainly,
        square=False,
    ),
    "OwlViTImageProcessor": Processor(
        {"size": 768, "crop_size": 768, **_BICUBIC, **_CLIP},
        resize_plainly,
        queries=QueryRule("sigmoid", _MOST_PAIRS, threshold=0.1),
    ),
    "Owlv2ImageProcessor": Processor(
        {"size": 960, **_CLIP}, resize_in_square, queries=QueryRule("sigmoid", _MOST_PAIRS, threshold=0.1, square=True)
    ),
    "PoolFormerImageProcessor": Processor(
        {"size": 224, "crop_pct": 0.9, **_CROPS_224, **_BICUBIC, **_IMAGENET}, resize_larger, square=False
    ),
    "PvtImageProcessor": Processor({"size": 224, **_BICUBIC, **_IMAGENET}, resize_plainly),
    "RTDetrImageProcessor": Processor(
        {"size": [640, 640], "do_normalize": False, **_IMAGENET}, resize_plainly, queries=QueryRule("sigmoid")
    ),
    "SegformerImageProcessor": Processor({"size": 512, **_IMAGENET}, resize_plainly),
    "SiglipImageProcessor": Processor({"size": 224, **_BICUBIC, **_STANDARD}, resize_plainly),
    "YolosImageProcessor": Processor(_DETR, resize_to_patches, square=False, queries=QueryRule("softmax")),
}
"""With the defaults of transformers' own classes, for settings that a model leaves out."""
