"""Images are prepared as by timm's own transforms, pixel for pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform, resolve_data_config

from cvbatch.errors import ModelError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View, apply_view, can_resize_whole
from cvbatch.models.timm.preparation import plan_preparation
from cvbatch.models.timm.registry import timm_registry
from cvbatch.testing import generate_images

THIN = [(1, 1), (2, 700), (900, 3), (37, 41), (224, 223), (301, 97)]
MODEL = "timm:a"
SETTINGS: list[dict[str, Any]] = [
    {},
    {"input_size": [3, 64, 64], "crop_pct": 0.95, "interpolation": "bilinear"},
    {"input_size": [3, 65, 65], "crop_pct": 0.9},
    {"input_size": [3, 64, 64], "crop_pct": 1.0},
    {"input_size": [3, 63, 63], "crop_pct": 0.91, "crop_mode": "squash"},
    {"input_size": [3, 96, 64], "crop_pct": 1.0, "crop_mode": "squash"},
    {"input_size": [3, 64, 64], "crop_pct": 1.0, "crop_mode": "border", "mean": [0.48, 0.46, 0.41]},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_pixels_are_those_of_timm(settings: dict[str, Any]) -> None:
    config = resolve_data_config(pretrained_cfg=settings or {"input_size": (3, 224, 224)})
    transform = create_transform(**config, use_prefetcher=True)
    view = plan_preparation(settings, MODEL).view
    random = np.random.default_rng(0)
    thin = [Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)) for width, height in THIN]
    if settings.get("crop_mode") == "border":
        thin = thin[3:]  # timm itself fails where a side would have no pixel
    for image in [*generate_images(), *thin]:
        step = 0 if can_resize_whole(view, image.size) else 1  # only the crop is resized, see `apply_view`
        expected = np.asarray(transform(image)).transpose(1, 2, 0).astype(int)
        assert np.abs(apply_view(view, image) - expected).max() <= step


def test_numbers_are_those_of_timm() -> None:
    settings = {"mean": [0.1, 0.2, 0.3], "std": 0.5}
    prepared = plan_preparation(settings, MODEL)
    assert (prepared.mean, prepared.std) == ((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    defaults, own = plan_preparation({}, MODEL), resolve_data_config(pretrained_cfg={"mean": None, "a": 1})
    assert (defaults.mean, defaults.std) == (own["mean"], own["std"])


def test_all_models_of_the_registry_can_be_prepared() -> None:
    views = {name: plan_preparation(settings, name).view for name, settings in timm_registry().settings.items()}
    assert len(views) > 1000
    assert views["vit_tiny_patch16_224"] == View(resize=248, crop=(224, 224), interpolation="bicubic")
    assert {type(view.letterbox) for view in views.values()} <= {type(None), Letterbox}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"input_size": [1, 64, 64]}, "a model of RGB images, got one of 1 channels"),
        ({"input_size": [3, 64]}, "its data configuration cannot be read"),
        ({"mean": [1]}, "its data configuration cannot be read"),
        ({"interpolation": "random"}, "expected interpolation: nearest, bilinear, bicubic, got 'random'"),
        ({"input_size": [3, 64, 96]}, "crop_mode: center with crop_pct: 0.875 for 64 × 96 pixels is not supported"),
        ({"crop_mode": "border"}, "crop_mode: border with crop_pct: 0.875"),
    ],
)
def test_what_a_view_cannot_do_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        plan_preparation(settings, MODEL)
    assert "\n" not in str(caught.value)
