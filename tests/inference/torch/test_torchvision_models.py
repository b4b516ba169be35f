"""Every builder of the catalog can be built, and the smallest of each family answers."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models as zoo

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View, apply_view
from cvbatch.inference.predictor import Predictor
from cvbatch.inference.torch import torchvision_models
from cvbatch.inference.torch.torchvision_models import OnMetaDevice, construct_builder, embedding_head, load_torchvision
from cvbatch.models import catalog, resolve
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_image

BUILDERS = list(catalog.catalog_entries())


def smallest_of_each_family() -> list[str]:
    """Of each architecture, whatever its depth, width or backbone, the one with the least work."""
    families: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
    for name in BUILDERS:
        entry = catalog.catalog_entries()[name]
        family = re.match(r"[a-z]+(_v\d|_x|_y)?", name)
        families[family[0] if family else name].append((entry.weights[entry.default].gflops, name))
    return [min(members)[1] for members in families.values()]


def random_spec(name: str) -> ModelSpec:
    (spec,) = resolve.resolve_models([ModelConfig(model=name, weights=None)])
    return spec


@pytest.mark.parametrize("name", BUILDERS)
def test_every_builder_is_constructed_on_the_meta_device(name: str) -> None:
    entry = catalog.catalog_entries()[name]
    with OnMetaDevice():
        network = construct_builder(
            name, num_classes=len(catalog.category_set(entry.weights[entry.default].categories))
        )
    assert all(parameter.is_meta for parameter in network.parameters())
    if name not in ("googlenet", "inception_v3"):  # theirs count the heads of training too
        assert sum(each.numel() for each in network.parameters()) <= entry.weights[entry.default].params * 1.01
    if entry.dimension:
        assert embedding_head(network).dimension == entry.dimension


LIGHT = {
    *("mobilenet_v3_small", "resnet18", "shufflenet_v2_x0_5", "squeezenet1_1", "vit_b_32"),
    *("maskrcnn_resnet50_fpn", "ssdlite320_mobilenet_v3_large", "lraspp_mobilenet_v3_large"),
}
"""One of each kind of answer and of each way to the features, which `make test` tries."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in LIGHT else pytest.mark.slow, id=name)
        for name in smallest_of_each_family()
    ],
)
def test_the_smallest_of_each_family_answers(name: str) -> None:
    spec = random_spec(name)
    if spec.task == "detection":  # random scores are all alike: few boxes, or Keypoint R-CNN takes 18 s
        (spec,) = resolve.resolve_models([ModelConfig(model=name, weights=None, score_threshold=0.9)])
    image = generate_image(160, 128)
    predictions = Predictor([spec]).predict_views({spec.view: [apply_view(spec.view, image)]}, [image.size])
    assert predictions.errors == [None]
    assert set(predictions.columns) == {field.name for field in spec.column_fields()}
    assert all(column.null_count == 0 for column in predictions.columns.values())


def test_random_weights_depend_on_the_seed_alone() -> None:
    states = [load_torchvision(random_spec("mobilenet_v3_small")).state_dict() for _ in range(2)]
    torch.rand(3)
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_pretrained_weights_are_loaded_by_the_builder_itself(tmp_path: Path) -> None:
    """It uses frozen batch norms with epsilon 0 for these weights, and would otherwise look into its own folder."""
    torch.manual_seed(0)
    original = construct_builder("fasterrcnn_resnet50_fpn", num_classes=91)
    state = {key: value for key, value in original.state_dict().items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "weights.pth")
    spec = ModelSpec(
        alias="detection",
        task="detection",
        kind="torchvision",
        name="fasterrcnn_resnet50_fpn",
        view=View(),
        weights="COCO_V1",
        weights_path=str(tmp_path / "weights.pth"),
        score_threshold=0.4,
    )
    loaded = load_torchvision(spec)
    assert loaded.roi_heads.score_thresh == 0.4
    assert type(loaded.backbone.body.bn1).__name__ == "FrozenBatchNorm2d"
    assert loaded.backbone.body.bn1.eps == 0
    assert torch.equal(loaded.backbone.body.conv1.weight, original.backbone.body.conv1.weight)
    assert zoo.WeightsEnum.get_state_dict.__module__.startswith("torchvision")


@pytest.mark.parametrize("name", ["ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"])
def test_the_threshold_reaches_the_builder(name: str) -> None:
    (spec,) = resolve.resolve_models([ModelConfig(model=name, weights=None, score_threshold=0.123)])
    network = load_torchvision(spec)
    assert 0.123 in (getattr(network, "score_thresh", None), getattr(network, "roi_heads", network).score_thresh)


def test_a_head_may_be_a_convolution() -> None:
    assert embedding_head(construct_builder("squeezenet1_1", num_classes=7)).spatial
    with pytest.raises(ModelError, match="expected a linear layer or a convolution"):
        embedding_head(nn.ReLU())


@pytest.mark.parametrize("name", ["squeezenet1_1", "vit_b_32", "googlenet"])
def test_embeddings_of_unusual_heads(name: str) -> None:
    (spec,) = resolve.resolve_models([ModelConfig(model=name, weights=None, task="embedding")])
    pixels = apply_view(spec.view, generate_image(256, 256))
    column = Predictor([spec]).predict_views({spec.view: [pixels]}, [(256, 256)]).columns["embedding_vector"]
    vector = np.array(column.to_pylist())
    assert vector.shape == (1, spec.dimension)
    assert vector.std() > 0


def test_shapes_take_no_memory() -> None:
    assert torchvision_models.builder_state_shapes("vgg16", 5)["classifier.6.weight"] == (5, 4096)
