"""Boxes and label maps of models of transformers: as their own processors decode them, on the same images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View
from cvbatch.inference.loading import probe_model
from cvbatch.inference.torch.query_boxes import THRESHOLD, QueryNetwork, QueryOutputs
from cvbatch.inference.torch.tensors import BatchNormalizer
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.models.transformers.reading import TransformersReading
from cvbatch.tasks.masks import decode_mask
from cvbatch.testing import generate_images, predict
from tests.rigs.transformers_models import (
    LAST_THREE,
    STAGES,
    make_model,
    names_of,
    own_processor,
    save_model,
    save_rt_detr,
    save_segformer,
    save_vit,
)

IMAGES = generate_images(((200, 150), (150, 200), (201, 99), (64, 64), (200, 150)))
NAMES = names_of(5)
BACKBONE = transformers.ResNetConfig(**STAGES, out_features=["stage4"])
DETR = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_queries": 12,
    **NAMES,
}
SIDES = {"size": {"shortest_edge": 96, "longest_edge": 170}}


def save_detector(kind: str, make_config: Callable[[], Any]) -> Callable[[Path], Path]:
    settings = {"image_processor_type": f"{kind}ImageProcessor", **SIDES}
    return lambda folder: save_model(make_model(f"{kind}ForObjectDetection", make_config()), folder, settings)


DETECTORS = {
    "detr": save_detector("Detr", lambda: transformers.DetrConfig(backbone_config=BACKBONE, **DETR)),
    "conditional detr": save_detector(
        "ConditionalDetr", lambda: transformers.ConditionalDetrConfig(backbone_config=BACKBONE, **DETR)
    ),
    "deformable detr": save_detector(
        "DeformableDetr",
        lambda: transformers.DeformableDetrConfig(
            backbone_config=transformers.ResNetConfig(**STAGES, out_features=LAST_THREE),
            num_feature_levels=3,
            **{**DETR, "d_model": 32},
        ),
    ),
    "yolos": save_detector(
        "Yolos",
        lambda: transformers.YolosConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            image_size=[96, 160],
            num_detection_tokens=12,
            **NAMES,
        ),
    ),
    "rt detr": save_rt_detr,
}


def resolve(folder: Path, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"hf:{folder}", **options})])
    return probe_model(spec)


@pytest.mark.parametrize("kind", DETECTORS)
def test_boxes_are_those_of_the_processor(kind: str, tmp_path: Path) -> None:
    folder = DETECTORS[kind](tmp_path / "tiny")
    spec = resolve(folder)
    assert (spec.task, len(spec.categories)) == ("detection", 5)
    columns = predict([spec], IMAGES, batch_size=2)
    processor = own_processor(folder)
    model = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    boxes = 0
    for row, image in enumerate(IMAGES):
        with torch.no_grad():
            output = model(pixel_values=processor(images=image, return_tensors="pt")["pixel_values"])
        (expected,) = processor.post_process_object_detection(
            output, threshold=THRESHOLD, target_sizes=[(image.height, image.width)]
        )
        corners = expected["boxes"].numpy().clip(0, np.tile(image.size, 2))
        order = np.argsort(-expected["scores"].numpy(), kind="stable")
        order = order[(corners[order, :2] < corners[order, 2:]).all(axis=1)]
        found = np.array(columns["detection_boxes"][row]).reshape(-1, 4)
        assert columns["detection_label_ids"][row] == expected["labels"].numpy()[order].tolist()
        np.testing.assert_allclose(columns["detection_scores"][row], expected["scores"].numpy()[order], atol=1e-4)
        np.testing.assert_allclose(found, corners[order], atol=1e-2)
        boxes += len(order)
    assert boxes >= len(IMAGES)


def reading(activation: Any) -> TransformersReading:
    return TransformersReading(
        architecture="A", config={}, revision=None, head="queries", activation=activation, mean=(0, 0, 0), std=(1, 1, 1)
    )


def spec_of(categories: tuple[str | None, ...], **fields: Any) -> ModelSpec:
    return ModelSpec(
        alias="a", task="detection", kind="transformers", name="a", view=View(), categories=categories, **fields
    )


def test_boxes_end_at_the_image_and_classes_without_a_name_are_left_out() -> None:
    logits = torch.tensor([[[9.0, 0, 0], [0, 8, 0], [0, 7, 0], [0, 0, 9]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.9, 0.5, 0.4, 0.4], [1.5, 0.5, 0.2, 0.2], [0.5, 0.5, 1, 1]]])
    outputs = QueryOutputs(logits, boxes, [(100, 50)], reading("softmax"))
    (answer,) = outputs.boxes(spec_of((None, "cat"), score_threshold=0.5))
    np.testing.assert_allclose(answer.boxes, [[70, 15, 100, 35]], atol=1e-4)
    assert answer.label_ids.tolist() == [1]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_numbers_that_are_none_are_errors_of_their_image(activation: str, tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, batch: Any) -> Any:
            logits = torch.zeros(len(batch), 4, 3)
            logits[batch.mean(dim=(1, 2, 3)) > 0.5] = float("nan")
            return logits, torch.full((len(batch), 4, 4), 0.5)

    network = QueryNetwork(Broken(), BatchNormalizer((0, 0, 0), (1, 1, 1), "cpu"), reading(activation))
    dark, bright = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    spec = spec_of(("a", "b", "c"))
    assert len(network.run_batch([dark], [(8, 8)], [spec])["a"][0].boxes) == 4
    with pytest.raises(Exception, match="expected finite scores and boxes"):
        network.run_batch([dark, bright], [(8, 8), (8, 8)], [spec])


def test_a_detector_needs_the_processor_of_one(tmp_path: Path) -> None:
    folder = save_rt_detr(tmp_path / "tiny")
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "ViTImageProcessor"}')
    with pytest.raises(ModelError, match=r"RTDetrForObjectDetection and the processor .* do not belong together"):
        resolve(folder)
    vit = save_vit(tmp_path / "vit")
    (vit / "preprocessor_config.json").write_text('{"image_processor_type": "DetrImageProcessor"}')
    with pytest.raises(ModelError, match="do not belong together"):
        resolve(vit)


def save_beit(folder: Path) -> Path:
    config = transformers.BeitConfig(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=24,
        image_size=64,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        use_auxiliary_head=False,
        **NAMES,
    )
    settings = {"image_processor_type": "BeitImageProcessor", "size": {"height": 64, "width": 64}}
    return save_model(make_model("BeitForSemanticSegmentation", config), folder, settings)


@pytest.mark.parametrize("save", [save_segformer, save_beit])
def test_label_maps_are_those_of_the_processor(save: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = save(tmp_path / "tiny")
    columns = predict([resolve(folder)], IMAGES, batch_size=2)
    processor = own_processor(folder)
    model = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    seen = set()
    for row, image in enumerate(IMAGES):
        with torch.no_grad():
            output = model(pixel_values=processor(images=image, return_tensors="pt")["pixel_values"])
        size = (image.height, image.width)
        (expected,) = processor.post_process_semantic_segmentation(output, target_sizes=[size])
        found = np.full(size, -1)
        for label, mask in zip(columns["segmentation_label_ids"][row], columns["segmentation_masks"][row], strict=True):
            found[decode_mask(mask, *size)] = label
        assert (found == expected.numpy()).mean() > 0.999
        seen |= set(columns["segmentation_labels"][row])
    assert len(seen) > 1
