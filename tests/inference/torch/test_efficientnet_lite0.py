"""The embedded model: what it sees on real photos, and that fusing changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from PIL import Image

from cvbatch.config.job import ModelConfig
from cvbatch.inference.torch import checkpoint, efficientnet_lite0
from cvbatch.models import resolve, weights
from cvbatch.testing import predict

data = pytest.importorskip("skimage.data", reason="real photos come with the extra `demo`")


def photo(name: str) -> Image.Image:
    return Image.fromarray(getattr(data, name)()).convert("RGB")


def test_the_cat_the_coffee_cup_and_the_rocket_are_labelled_as_such() -> None:
    specs = resolve.resolve_models([ModelConfig(model="efficientnet_lite0")])
    labels = predict(specs, [photo(name) for name in ("chelsea", "coffee", "rocket")])["classification_label"]
    assert labels[0] in {"tabby", "tiger cat", "Egyptian cat"}
    assert labels[1] in {"espresso", "cup", "coffee mug"}
    assert labels[2] in {"missile", "projectile"}


def test_boxes_and_masks_are_where_the_things_are() -> None:
    tasks = ("detection", "segmentation")
    specs = resolve.resolve_models([ModelConfig(model="efficientnet_lite0", task=task) for task in tasks])
    columns = predict(specs, [photo("coffee"), photo("camera")])
    assert columns["detection_labels"] == columns["segmentation_labels"] == [["espresso"], ["tripod"]]
    for (box,), inside in zip(columns["detection_boxes"], [(250, 200), (300, 300)], strict=True):
        assert box[0] < inside[0] < box[2]
        assert box[1] < inside[1] < box[3]
    for (area,), (box,) in zip(columns["segmentation_areas"], columns["detection_boxes"], strict=True):
        assert 0.05 < area < 0.5
        assert area * 600 * 512 < (box[2] - box[0]) * (box[3] - box[1]) * 1.3


@pytest.mark.parametrize("size", [(224, 224), (384, 517), (97, 385), (33, 32)])
def test_fusing_keeps_the_answers(size: tuple[int, int]) -> None:
    plain = efficientnet_lite0.construct_lite0(1000).eval()
    plain.load_state_dict(checkpoint.read_state_dict(str(weights.find_embedded_file())))
    fused = efficientnet_lite0.fuse_batch_norms(copy.deepcopy(plain))
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in fused.modules())
    batch = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(fused(batch), plain(batch), atol=1e-4, rtol=1e-4)
