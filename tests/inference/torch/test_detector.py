"""Masks and keypoints equal torchvision's own, pasted all at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from cvbatch.images.preprocess import View
from cvbatch.inference.torch.detector import DetectorNetwork
from cvbatch.inference.torch.torchvision_models import construct_builder
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.masks import decode_mask
from cvbatch.testing import generate_images

SIZES = [(90, 70), (70, 90)]
SMALL = {"min_size": 64, "max_size": 96, "rpn_post_nms_top_n_test": 4}
SPEC = ModelSpec(
    alias="a",
    task="detection",
    kind="torchvision",
    name="",
    view=View(),
    categories=(None, "b", None, "d"),
    masks=True,
    score_threshold=0.2,
)


@pytest.mark.parametrize("kind", ["maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"])
def test_masks_and_keypoints_are_those_of_torchvision(kind: str) -> None:
    torch.manual_seed(0)
    network = construct_builder(kind, num_classes=4, **SMALL).eval()
    for layer in network.modules():  # noise that differs from box to box, in place of activations that all vanish
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = 1.0
            layer.train()
    pixels = [np.asarray(image) for image in generate_images(SIZES)]
    tensors = [torch.tensor(each).permute(2, 0, 1) / 255 for each in pixels]
    with torch.inference_mode():
        network(tensors)
        network.eval()
        expected = [network([each])[0] for each in tensors]
        spec = SPEC if kind.startswith("mask") else replace(SPEC, masks=False, keypoints=True)
        found = [DetectorNetwork(network, "cpu").run_batch([each], [(0, 0)], [spec])["a"][0] for each in pixels]
    for image, wanted, got in zip(pixels, expected, found, strict=True):
        keep = (wanted["scores"] >= 0.2) & torch.isin(wanted["labels"], torch.tensor([1, 3]))
        assert 0 < len(got.scores) == keep.sum() < len(keep)
        np.testing.assert_allclose(got.boxes, wanted["boxes"][keep], atol=1e-3)
        np.testing.assert_array_equal(got.label_ids, wanted["labels"][keep])
        if kind.startswith("mask"):
            assert got.keypoints is None
            for counts, mask in zip(got.masks, wanted["masks"][keep], strict=True):
                np.testing.assert_array_equal(decode_mask(counts, *image.shape[:2]), mask[0] > 0.5)
        else:
            assert got.masks == []
            np.testing.assert_allclose(got.keypoints[..., :2], wanted["keypoints"][keep][..., :2], atol=1e-3)
            np.testing.assert_allclose(got.keypoints[..., 2], wanted["keypoints_scores"][keep], atol=1e-3)


def test_images_share_a_batch_when_the_padded_size_is_equal() -> None:
    detector = DetectorNetwork(construct_builder("fasterrcnn_resnet50_fpn", num_classes=2), "cpu")
    sizes = [(375, 500), (376, 500), (500, 375), (333, 500), (4000, 3000), (100, 3000), (1, 3000), (3000, 1)]
    for height, width in sizes:
        image = np.zeros((height, width, 3), np.uint8)
        with torch.inference_mode():
            batch, _ = detector._transform([torch.zeros(3, height, width)])
        assert detector.batch_key(image) == tuple(batch.tensors.shape[2:])
    fixed = DetectorNetwork(construct_builder("ssdlite320_mobilenet_v3_large", num_classes=2), "cpu")
    assert fixed.batch_key(np.zeros((9, 99, 3), np.uint8)) == (320, 320)


def test_an_image_so_thin_that_nothing_would_be_left_of_a_side_keeps_one_pixel_of_it() -> None:
    network = construct_builder("fasterrcnn_mobilenet_v3_large_320_fpn", num_classes=4)
    detector = DetectorNetwork(network.eval(), "cpu")
    spec = replace(SPEC, masks=False)
    for height, width in [(1, 60_000), (60_000, 1), (2, 30_000)]:
        with torch.inference_mode():
            [found] = detector.run_batch([np.zeros((height, width, 3), np.uint8)], [(width, height)], [spec])["a"]
        assert (found.boxes <= [width, height, width, height]).all()
