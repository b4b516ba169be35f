"""Scores and boxes of prompts: those of transformers' own pipelines and processors, on the same images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import BertModel, pipeline

from cvbatch.config.job import ModelConfig
from cvbatch.images.preprocess import apply_view
from cvbatch.inference.loading import load_network, probe_model
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images, predict
from tests.rigs.prompted_models import save_clip, save_grounding_dino, save_owl, save_siglip
from tests.rigs.transformers_models import own_processor

IMAGES = generate_images(((200, 150), (150, 200), (201, 99), (64, 64), (200, 150)))
PROMPTS = ["cat", "red dog", "the small bird on table", "person"]
TEMPLATE = "a photo of a {}"


def resolve(folder: Path, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"hf:{folder}", "prompts": PROMPTS, **options})])
    return probe_model(spec)


@pytest.mark.parametrize(
    ("save", "total", "template"), [(save_clip, 1, None), (save_clip, 1, TEMPLATE), (save_siglip, None, TEMPLATE)]
)
def test_scores_are_those_of_the_pipeline(
    save: Callable[[Path], Path], total: float | None, template: str | None, tmp_path: Path
) -> None:
    folder = save(tmp_path / "tiny")
    spec = resolve(folder, template=template, top_k=4)
    assert (spec.task, spec.categories) == ("classification", tuple(PROMPTS))
    columns = predict([spec], IMAGES, batch_size=2)
    run = pipeline("zero-shot-image-classification", model=str(folder), image_processor=own_processor(folder))
    for row, image in enumerate(IMAGES):
        answers = run(image, candidate_labels=PROMPTS, hypothesis_template=template or "{}")
        assert columns["classification_top_labels"][row] == [answer["label"] for answer in answers]
        scores = columns["classification_top_scores"][row]
        np.testing.assert_allclose(scores, [answer["score"] for answer in answers], atol=1e-5)
        assert total is None or sum(scores) == pytest.approx(total, abs=1e-5)
    assert np.ptp(columns["classification_score"]) > 1e-3


def assert_boxes_of_pipeline(columns: dict[str, Any], folder: Path, images: list[Image.Image], template: str) -> int:
    """Compare boxes with those of the pipeline, which have whole pixels; return how many there are."""
    run = pipeline("zero-shot-object-detection", model=str(folder), image_processor=own_processor(folder))
    labels = {template.format(prompt): prompt for prompt in PROMPTS}
    count = 0
    for row, image in enumerate(images):
        answers = [(one, in_image(one["box"], image)) for one in run(image, candidate_labels=list(labels))]
        expected = [(labels[one["label"]], one["score"], box) for one, box in answers if (box[:2] < box[2:]).all()]
        boxes = np.array(columns["detection_boxes"][row])
        rows = np.flatnonzero((boxes[:, :2].astype(int) < boxes[:, 2:].astype(int)).all(axis=1))
        assert [columns["detection_labels"][row][number] for number in rows] == [one[0] for one in expected]
        scores = np.array(columns["detection_scores"][row])[rows]
        np.testing.assert_allclose(scores, [one[1] for one in expected], atol=1e-4)
        np.testing.assert_allclose(boxes[rows], [one[2] for one in expected], atol=1.01)
        count += len(expected)
    return count


def in_image(box: dict[str, int], image: Image.Image) -> Any:
    return np.array(list(box.values())).clip(0, np.tile(image.size, 2))


@pytest.mark.parametrize(
    ("kind", "template", "images"),
    [
        ("OwlViT", TEMPLATE, IMAGES[:3]),
        # its processor blurs what it makes smaller, and these need not be
        ("Owlv2", "{}", generate_images(((64, 40), (30, 64), (64, 64)))),
    ],
)
def test_boxes_of_owl_are_those_of_the_pipeline(
    kind: str, template: str, images: list[Image.Image], tmp_path: Path
) -> None:
    folder = save_owl(tmp_path / "tiny", kind)
    spec = resolve(folder, template=template)
    assert (spec.task, spec.categories) == ("detection", tuple(PROMPTS))
    columns = predict([spec], images, batch_size=2)
    assert assert_boxes_of_pipeline(columns, folder, images, template) > 20


def own_queries(folder: Path, image: Image.Image, text: list[str]) -> tuple[Any, Any, Any]:
    """Tokens, logits and boxes of Grounding DINO for prompts that fit one text."""
    processor = transformers.GroundingDinoProcessor(
        own_processor(folder), transformers.AutoTokenizer.from_pretrained(folder)
    )
    model = transformers.GroundingDinoForObjectDetection.from_pretrained(folder).eval()
    inputs = processor(images=image, text=[text], return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    (result,) = processor.post_process_grounded_object_detection(
        output, threshold=0, target_sizes=[(image.height, image.width)]
    )
    return inputs["input_ids"][0].tolist(), output.logits[0], result["boxes"].numpy()


@pytest.mark.parametrize("most", [24, 12])
def test_boxes_of_grounding_dino_are_those_of_its_processor(most: int, tmp_path: Path) -> None:
    """Where one text has no room for all prompts, those of several are joined."""
    folder = save_grounding_dino(tmp_path / "tiny", most=most)
    spec = resolve(folder, score_threshold=0)
    texts = [PROMPTS] if most == 24 else [PROMPTS[:2], PROMPTS[2:]]
    columns = predict([spec], IMAGES[:3], batch_size=2)
    for row, image in enumerate(IMAGES[:3]):
        expected = []
        for text, tokens, owners in zip(texts, spec.options["tokens"], spec.options["owners"], strict=True):
            own_tokens, logits, boxes = own_queries(folder, image, text)
            assert tokens == own_tokens
            of_prompts = logits.sigmoid()[:, : len(owners)].numpy() * (np.array(owners) >= 0)
            best = of_prompts.argmax(axis=1)
            corners = boxes.clip(0, np.tile(image.size, 2))
            expected += [
                (of_prompts[query, token], PROMPTS[owners[token]], corners[query])
                for query, token in enumerate(best)
                if (corners[query, :2] < corners[query, 2:]).all()
            ]
        expected.sort(key=lambda one: -one[0])
        np.testing.assert_allclose(columns["detection_scores"][row], [one[0] for one in expected], atol=1e-4)
        assert columns["detection_labels"][row] == [one[1] for one in expected]
        np.testing.assert_allclose(columns["detection_boxes"][row], [one[2] for one in expected], atol=0.1)
    assert len({label for labels in columns["detection_labels"] for label in labels}) > 1


@pytest.mark.parametrize(
    ("save", "encoder", "texts"),
    [(save_clip, transformers.models.clip.modeling_clip.CLIPTextModel, 3), (save_grounding_dino, BertModel, 1)],
)
def test_texts_are_encoded_once(
    save: Callable[[Path], Path], encoder: Any, texts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of CLIP by their lengths, of which there are three."""
    spec = resolve(save(tmp_path / "tiny"))
    calls: list[Any] = []
    forward = encoder.forward
    monkeypatch.setattr(encoder, "forward", lambda *args, **options: calls.append(args) or forward(*args, **options))
    network = load_network(spec, device="cpu", setting=REFERENCE)
    for image in IMAGES[:3]:
        network.run_batch([apply_view(spec.view, image)], [image.size], [spec])
    assert len(calls) == texts


def test_bfloat16_changes_little(tmp_path: Path) -> None:
    spec = resolve(save_clip(tmp_path / "tiny"))
    settings = (REFERENCE, InferenceSettings(precision="bf16"))
    scores = [predict([spec], IMAGES, setting=setting)["classification_score"] for setting in settings]
    np.testing.assert_allclose(*scores, atol=0.05)
    assert scores[0] != scores[1]
