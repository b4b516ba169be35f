"""Instances and label maps of networks with masks of queries: those of their own processors, on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.inference.loading import probe_model
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks.masks import decode_mask
from cvbatch.testing import generate_images, predict
from tests.rigs.mask_models import save_detr_for_masks, save_mask2former, save_maskformer
from tests.rigs.transformers_models import own_processor

IMAGES = generate_images(((200, 150), (150, 200), (201, 99)))
LEAST = 0.3


def resolve(folder: Path, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"hf:{folder}", **options})])
    return probe_model(spec)


SAVES = {"mask2former": save_mask2former, "maskformer": save_maskformer, "detr": save_detr_for_masks}


@pytest.fixture(scope="module", params=SAVES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return SAVES[request.param](tmp_path_factory.mktemp("models") / request.param)


def own_outputs(folder: Path) -> tuple[Any, list[Any]]:
    processor = own_processor(folder)
    name = resolve(folder).options["architecture"]
    model = getattr(transformers, name).from_pretrained(folder).eval()
    with torch.no_grad():
        return processor, [
            model(pixel_values=processor(images=image, return_tensors="pt")["pixel_values"]) for image in IMAGES
        ]


def own_instances(processor: Any, output: Any, size: tuple[int, int]) -> list[tuple[float, int, Any]]:
    """Score, label id and mask of each instance."""
    binary = {} if "Detr" in type(processor).__name__ else {"return_binary_maps": True}
    (result,) = processor.post_process_instance_segmentation(output, threshold=LEAST, target_sizes=[size], **binary)
    masks = result["segmentation"]
    return [
        (one["score"], one["label_id"], (masks[row] > 0 if binary else masks == one["id"]).numpy())
        for row, one in enumerate(result["segments_info"])
    ]


def test_instances_are_those_of_the_processor(folder: Path) -> None:
    spec = resolve(folder, score_threshold=LEAST)
    assert (spec.task, spec.masks, len(spec.categories)) == ("detection", True, 5)
    columns = predict([spec], IMAGES, batch_size=2)
    processor, outputs = own_outputs(folder)
    count = 0
    for row, (image, output) in enumerate(zip(IMAGES, outputs, strict=True)):
        expected = sorted(own_instances(processor, output, image.size[::-1]), key=lambda one: -one[0])
        assert columns["detection_label_ids"][row] == [one[1] for one in expected]
        np.testing.assert_allclose(columns["detection_scores"][row], [one[0] for one in expected], atol=1e-4)
        for stored, box, (_, _, mask) in zip(
            columns["detection_masks"][row], columns["detection_boxes"][row], expected, strict=True
        ):
            ours = decode_mask(stored, image.height, image.width)
            assert (ours == mask).mean() > 0.999
            ys, xs = np.nonzero(ours)
            assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        count += len(expected)
    assert count >= len(IMAGES)


def test_label_maps_are_those_of_the_processor(folder: Path) -> None:
    spec = resolve(folder, task="segmentation")
    columns = predict([spec], IMAGES, batch_size=2)
    processor, outputs = own_outputs(folder)
    for row, (image, output) in enumerate(zip(IMAGES, outputs, strict=True)):
        size = image.size[::-1]
        (expected,) = processor.post_process_semantic_segmentation(output, target_sizes=[size])
        found = np.full(size, -1)
        for label, mask in zip(columns["segmentation_label_ids"][row], columns["segmentation_masks"][row], strict=True):
            found[decode_mask(mask, *size)] = label
        assert (found == expected.numpy()).mean() > 0.999
    assert len({label for labels in columns["segmentation_labels"] for label in labels}) > 1


def test_oneformer_is_refused(tmp_path: Path) -> None:
    save_mask2former(tmp_path / "tiny")
    text = (tmp_path / "tiny" / "config.json").read_text()
    (tmp_path / "tiny" / "config.json").write_text(text.replace("Mask2FormerForUniv", "OneFormerForUniv"))
    with pytest.raises(ModelError, match="OneFormerForUniversalSegmentation is told its task in words"):
        resolve(tmp_path / "tiny")
