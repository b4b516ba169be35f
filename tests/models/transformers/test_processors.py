"""Pixels reach a network as its own processor makes them, for all processors and their settings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View, apply_view
from cvbatch.models.transformers.processor_table import PROCESSORS
from cvbatch.models.transformers.processors import plan_preparation
from cvbatch.testing import generate_images

SIZES = ((320, 240), (241, 319), (500, 375), (225, 231), (33, 150), (400, 64), (9, 12))
IMAGES = generate_images(SIZES)


def own_pixels(name: str, settings: dict[str, Any], image: Image.Image) -> Any:
    processor = getattr(transformers, f"{name}Pil")(**settings)
    return processor(images=image, return_tensors="np")["pixel_values"][0]


def our_pixels(name: str, settings: dict[str, Any], image: Image.Image) -> Any:
    plan = plan_preparation({"image_processor_type": name, **settings}, "hf:tiny", covers_image=False)
    pixels = apply_view(plan.view, image).astype(np.float32) / 255
    if plan.bgr:
        pixels = pixels[..., ::-1]
    return np.moveaxis((pixels - np.float32(plan.mean)) / np.float32(plan.std), -1, 0)


def assert_equal_pixels(name: str, settings: dict[str, Any]) -> None:
    for image in IMAGES:
        ours, theirs = our_pixels(name, settings, image), own_pixels(name, settings, image)
        assert ours.shape == theirs.shape, image.size
        np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=f"{name} {settings} {image.size}")


# MobileViT's crop is larger than its size, and its two implementations pad odd numbers of pixels differently
@pytest.mark.parametrize("name", sorted(PROCESSORS.keys() - {"Owlv2ImageProcessor"}))
def test_defaults_are_those_of_transformers(name: str) -> None:
    assert_equal_pixels(name, {"size": {"shortest_edge": 288}} if name == "MobileViTImageProcessor" else {})


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ViTImageProcessor", {"size": {"height": 96, "width": 64}, "resample": 0}),
        ("ViTImageProcessor", {"size": 64, "rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "resample": 3}),
        ("ViTImageProcessor", {"size": 64, "do_normalize": False}),
        ("ViTImageProcessor", {"size": 64, "do_rescale": False, "image_mean": [123.0, 116.0, 103.0]}),
        ("ViTImageProcessor", {"do_resize": False}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 65}, "crop_size": 64, "resample": 2}),
        ("CLIPImageProcessor", {"size": {"shortest_edge": 50}, "crop_size": {"height": 40, "width": 30}}),
        ("CLIPImageProcessor", {"size": {"height": 70, "width": 50}, "do_center_crop": False}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 96}, "crop_pct": 0.95}),
        ("BitImageProcessor", {"size": {"shortest_edge": 256}}),
        (
            "EfficientNetImageProcessor",
            {"size": 64, "rescale_offset": True, "rescale_factor": 1 / 127.5, "resample": 0},
        ),
        ("EfficientNetImageProcessor", {"size": 64, "include_top": False}),
        ("PoolFormerImageProcessor", {"crop_pct": 0.95}),
        ("MobileViTImageProcessor", {"size": {"shortest_edge": 72}, "crop_size": {"height": 64, "width": 64}}),
        ("DetrImageProcessor", {"size": {"shortest_edge": 96, "longest_edge": 200}}),
        ("DetrImageProcessor", {"size": {"height": 96, "width": 64}, "do_pad": False}),
        ("YolosImageProcessor", {"size": {"shortest_edge": 96, "longest_edge": 161}}),
        ("RTDetrImageProcessor", {"size": {"height": 96, "width": 64}, "do_normalize": True}),
        (
            "DPTImageProcessor",
            {"size": {"height": 70, "width": 98}, "keep_aspect_ratio": True, "ensure_multiple_of": 14},
        ),
        ("DPTImageProcessor", {"size": {"height": 70, "width": 100}, "ensure_multiple_of": 32}),
        ("Mask2FormerImageProcessor", {"size": {"shortest_edge": 90, "longest_edge": 170}, "size_divisor": 0}),
        ("MaskFormerImageProcessor", {"size": {"height": 90, "width": 70}}),
        ("MaskFormerImageProcessor", {"size": 90, "max_size": 150}),
        ("BeitImageProcessor", {"size": {"height": 80, "width": 64}, "do_center_crop": True, "crop_size": 60}),
    ],
)
def test_settings_mean_the_same(name: str, settings: dict[str, Any]) -> None:
    assert_equal_pixels(name, settings)


def test_owlv2_blurs_where_pillow_averages() -> None:
    settings = {"size": {"height": 96, "width": 96}, "do_normalize": False}
    for image in IMAGES:
        ours, theirs = (pixels("Owlv2ImageProcessor", settings, image) for pixels in (our_pixels, own_pixels))
        assert ours.shape == theirs.shape
        assert 255 * np.abs(ours - theirs).mean() < 12


def test_names_of_other_versions() -> None:
    old = {"feature_extractor_type": "ViTFeatureExtractor", "size": 64, "resample": 2}
    fast = {"image_processor_type": "ViTImageProcessorFast", "size": {"height": 64, "width": 64}, "resample": 2}
    views = [plan_preparation(settings, "hf:tiny", covers_image=True).view for settings in (old, fast)]
    assert views == [View(resize=(64, 64))] * 2


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (None, "expected preprocessor_config.json"),
        ({"image_processor_type": "SamImageProcessor"}, "prepared by SamImageProcessor, and known are ViT"),
        ({}, "a processor without a name"),
        ({"image_processor_type": "ViTImageProcessor", "do_pad": True}, "do_pad: True of ViTImageProcessor"),
        ({"image_processor_type": "ViTImageProcessor", "resample": 1}, "expected resample: 0"),
        ({"image_processor_type": "ViTImageProcessor", "size": "large"}, "expected size:"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 9}}, "expected size:"),
        ({"image_processor_type": "ViTImageProcessor", "image_mean": [1, 2]}, "not enough values"),
        ({"image_processor_type": "CLIPImageProcessor"}, "would not cover them"),
    ],
)
def test_what_a_view_cannot_do_is_said(settings: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        plan_preparation(settings, "hf:tiny", covers_image=True)
    assert "\n" not in str(caught.value)
