"""At fp32 the rows are what torchvision's own transforms and model give for each image alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import models as zoo
from torchvision.ops import box_iou
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification, SemanticSegmentation

from cvbatch.config.job import ModelConfig
from cvbatch.inference.torch import class_activation_maps, efficientnet_lite0
from cvbatch.models import resolve, weights
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.masks import decode_mask
from cvbatch.testing import generate_images, predict
from tests.inference.conftest import Seeded

MARGIN = 1e-4
CLASSIFIERS = ("resnet18", "mobilenet_v3_small")
DETECTORS = ("ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn")
SEGMENTERS = ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large")
BATCHES = pytest.mark.parametrize(
    "batch_size", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(8, marks=pytest.mark.slow)]
)
"""`make test` has several batches of an image, the last of which is smaller."""
IMAGES = generate_images()
ALONE: dict[str, list[Any]] = {}


def embedded(task: str) -> ModelSpec:
    (spec,) = resolve.resolve_models([ModelConfig(model="efficientnet_lite0", task=task)])
    return spec


@cache
def torchvision_model(spec_name: str, path: str, num_classes: int) -> nn.Module:
    extra = {} if spec_name in CLASSIFIERS else {"weights_backbone": None}
    model = zoo.get_model(spec_name, weights=None, num_classes=num_classes, **extra)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@cache
def embedded_model() -> nn.Module:
    model = efficientnet_lite0.EfficientNet.from_name("efficientnet-lite0", image_size=None)
    model.load_state_dict(torch.load(weights.find_embedded_file(), weights_only=True))
    return model.eval()


def reference(spec: ModelSpec) -> tuple[nn.Module, Any]:
    """The model and the transforms, by their authors' own code."""
    if spec.kind == "embedded":
        settings = {"mean": (0.498,) * 3, "std": (0.502,) * 3, "interpolation": InterpolationMode.BICUBIC}
        if spec.view.crop:
            return embedded_model(), ImageClassification(crop_size=224, resize_size=256, **settings)
        return embedded_model(), SemanticSegmentation(resize_size=384, **settings)
    model = torchvision_model(spec.name, str(spec.weights_path), len(spec.categories))
    return model, zoo.get_model_weights(spec.name).DEFAULT.transforms()


def alone(spec: ModelSpec) -> list[Any]:
    """The model's answer to each image alone."""
    if spec.name not in ALONE:
        model, transforms = reference(spec)
        with torch.inference_mode():
            ALONE[spec.name] = [model(transforms(image)[None]) for image in IMAGES]
    return ALONE[spec.name]


def features(spec: ModelSpec, last: nn.Module) -> npt.NDArray[np.float32]:
    """What goes into the last layer of a classifier, for each image alone."""
    key = f"features of {spec.name}"
    if key not in ALONE:
        model, transforms = reference(spec)
        ALONE[key] = []
        hook = last.register_forward_pre_hook(lambda module, inputs: ALONE[key].append(inputs[0]))
        with torch.inference_mode():
            for image in IMAGES:
                model(transforms(image)[None])
        hook.remove()
    return torch.cat(ALONE[key]).numpy()


@BATCHES
@pytest.mark.parametrize("builder", [*CLASSIFIERS, "efficientnet_lite0"])
def test_classification_equals_each_image_alone(builder: str, batch_size: int, seeded: Seeded) -> None:
    spec = embedded("classification") if builder == "efficientnet_lite0" else seeded(builder)
    expected = torch.cat(alone(spec)).softmax(dim=1).numpy()
    columns = predict([spec], IMAGES, batch_size=batch_size)
    ids = np.array(columns["classification_top_label_ids"])
    np.testing.assert_allclose(columns["classification_top_scores"], -np.sort(-expected)[:, :5], atol=MARGIN)
    np.testing.assert_allclose(np.take_along_axis(expected, ids, 1), columns["classification_top_scores"], atol=MARGIN)
    clear = np.diff(np.sort(expected)[:, -2:], axis=1)[:, 0] > MARGIN
    np.testing.assert_array_equal(np.array(columns["classification_label_id"])[clear], expected.argmax(1)[clear])
    assert [ids[at, 0] for at in range(len(IMAGES))] == columns["classification_label_id"]
    assert columns["classification_label"] == [spec.categories[at] for at in columns["classification_label_id"]]


@BATCHES
@pytest.mark.parametrize("builder", [*CLASSIFIERS, "efficientnet_lite0"])
def test_embedding_equals_each_image_alone(builder: str, batch_size: int, seeded: Seeded) -> None:
    lite = builder == "efficientnet_lite0"
    spec = embedded("embedding") if lite else seeded(builder, task="embedding")
    children = dict(reference(spec)[0].named_children())
    last = children["_fc"] if lite else (children["fc"] if builder == "resnet18" else children["classifier"][-1])
    expected = features(spec, last)
    got = np.array(predict([spec], IMAGES, batch_size=batch_size)["embedding_vector"])
    assert got.shape == expected.shape == (len(IMAGES), spec.dimension)
    assert (np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)).max() < MARGIN


@BATCHES
@pytest.mark.parametrize("builder", DETECTORS)
def test_detection_equals_each_image_alone(builder: str, batch_size: int, seeded: Seeded) -> None:
    spec = seeded(builder)
    columns = predict([spec], IMAGES, batch_size=batch_size)
    for at, (expected,) in enumerate(alone(spec)):
        named = torch.tensor([spec.categories[label] is not None for label in expected["labels"]])
        limit = float(expected["scores"].min())  # where the model's own threshold or limit of boxes cuts
        found = {name: np.array(columns[f"detection_{name}"][at]) for name in ("boxes", "label_ids", "scores")}
        wanted = {
            name: expected[key][named].numpy() for name, key in zip(found, ("boxes", "labels", "scores"), strict=True)
        }
        assert len(found["boxes"]) > 0
        assert_contains(found, wanted, limit)
        assert_contains(wanted, found, limit)
        assert (np.diff(found["scores"]) <= 0).all()


@BATCHES
def test_weak_boxes_equal_each_image_alone(batch_size: int) -> None:
    spec = embedded("detection")
    columns = predict([spec], IMAGES, batch_size=batch_size)
    counts = 0
    for at, (image, maps) in enumerate(zip(IMAGES, class_maps(spec), strict=True)):
        expected = class_activation_maps.regions_to_boxes(
            class_activation_maps.find_regions(maps, range(1000)), image.size
        )
        found = {name: np.array(columns[f"detection_{name}"][at]) for name in ("boxes", "label_ids", "scores")}
        wanted = {name: getattr(expected, name) for name in found}
        assert_contains(found, wanted, class_activation_maps.THRESHOLD)
        assert_contains(wanted, found, class_activation_maps.THRESHOLD)
        counts += len(expected.scores)
    assert counts > 0


def assert_contains(found: dict[str, npt.NDArray[Any]], wanted: dict[str, npt.NDArray[Any]], limit: float) -> None:
    """Every wanted box whose score is not at the limit is found: by IoU, with its label, to 0.1 pixel and 1e-4."""
    if not len(wanted["boxes"]):
        return
    overlaps = box_iou(torch.tensor(wanted["boxes"]).float(), torch.tensor(found["boxes"]).float().reshape(-1, 4))
    for box, label, score, overlap in zip(*wanted.values(), overlaps.numpy(), strict=True):
        if score - limit < MARGIN:
            continue
        alike = (overlap > 0.9) & (found["label_ids"] == label) & (np.abs(found["scores"] - score) < MARGIN)
        assert alike.any(), (box, label, score)
        assert np.abs(found["boxes"][alike] - box).max(axis=1).min() < 0.1


def class_maps(spec: ModelSpec) -> list[torch.Tensor]:
    """The class maps of each image alone, (classes, height, width)."""
    if "maps" not in ALONE:
        model, transforms = reference(spec)
        with torch.inference_mode():
            last = [model.extract_features(transforms(image)[None]) for image in IMAGES]
            ALONE["maps"] = [model._fc(each.permute(0, 2, 3, 1))[0].permute(2, 0, 1) for each in last]
    return ALONE["maps"]


@BATCHES
@pytest.mark.parametrize("builder", [SEGMENTERS[0], pytest.param(SEGMENTERS[1], marks=pytest.mark.slow)])
def test_segmentation_equals_each_image_alone(builder: str, batch_size: int, seeded: Seeded) -> None:
    spec = seeded(builder)
    columns = predict([spec], IMAGES, batch_size=batch_size)
    for at, (image, answer) in enumerate(zip(IMAGES, alone(spec), strict=True)):
        size = (image.height, image.width)
        logits = functional.interpolate(answer["out"], size=size, mode="bilinear", align_corners=False)[0]
        first, second = logits.topk(2, dim=0).values
        compare_segments(spec, columns, at, logits.argmax(dim=0).numpy(), (first - second).numpy() > MARGIN)


@BATCHES
def test_weak_masks_equal_each_image_alone(batch_size: int) -> None:
    spec = embedded("segmentation")
    columns = predict([spec], IMAGES, batch_size=batch_size)
    for at, (image, maps) in enumerate(zip(IMAGES, class_maps(spec), strict=True)):
        expected = class_activation_maps.regions_to_segments(
            class_activation_maps.find_regions(maps, range(1000)), image.size
        )
        assert columns["segmentation_label_ids"][at] == expected.label_ids.tolist()
        for counts, wanted in zip(columns["segmentation_masks"][at], expected.masks, strict=True):
            masks = [decode_mask(each, image.height, image.width) for each in (counts, wanted)]
            assert (masks[0] == masks[1]).mean() > 0.999


def compare_segments(
    spec: ModelSpec, columns: dict[str, Any], at: int, expected: npt.NDArray[Any], clear: npt.NDArray[Any]
) -> None:
    labels = np.zeros(expected.shape, int)
    ids: Sequence[int] = columns["segmentation_label_ids"][at]
    for label, area, counts in zip(
        ids, columns["segmentation_areas"][at], columns["segmentation_masks"][at], strict=True
    ):
        mask = decode_mask(counts, *expected.shape)
        assert mask.mean() == pytest.approx(area, abs=1e-6)
        assert not labels[mask].any()
        labels[mask] = label
    assert 0 not in ids
    assert list(ids) == sorted(ids)
    assert columns["segmentation_labels"][at] == [spec.categories[label] for label in ids]
    assert (labels == expected)[clear].mean() > 0.999


def test_position_in_the_unit_changes_nothing(seeded: Seeded) -> None:
    specs = [seeded("resnet18"), seeded("ssdlite320_mobilenet_v3_large"), seeded("lraspp_mobilenet_v3_large")]
    order = np.random.default_rng(0).permutation(len(IMAGES))
    straight = predict(specs, IMAGES, batch_size=4)
    shuffled = predict(specs, [IMAGES[at] for at in order], batch_size=4)
    for name in ("classification_label_id", "segmentation_label_ids"):
        assert [straight[name][at] for at in order] == shuffled[name]
    for new, old in enumerate(order):
        expected, found = straight["detection_scores"][old], shuffled["detection_scores"][new]
        np.testing.assert_allclose(found, expected, atol=MARGIN)
