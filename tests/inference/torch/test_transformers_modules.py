"""Answers of models of transformers through the product: those of transformers themselves, on the same images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModel, pipeline

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.inference.loading import probe_model
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images, predict
from tests.rigs.transformers_models import SMALL, make_model, names_of, own_processor, save_model, save_vit

IMAGES = generate_images()
NAMES = names_of(7)
STAGES = {"hidden_sizes": [8, 16], "depths": [1, 1]}
VIT = {"image_processor_type": "ViTImageProcessor", "size": {"height": 64, "width": 64}}
CLIP = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 64}, "crop_size": 64}
CONVNEXT = {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 64}}
TEXT = {**SMALL, "vocab_size": 99, "max_position_embeddings": 16}
VISION = {**SMALL, "image_size": 64, "patch_size": 16}


def resolve(folder: Path, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"hf:{folder}", **options})])
    return probe_model(spec)


def own_answers(folder: Path, **options: Any) -> list[Any]:
    """What `transformers.pipeline` gives for each image."""
    run = pipeline("image-classification", model=str(folder), image_processor=own_processor(folder), **options)
    return [run(image) for image in IMAGES]


def save_classifier(kind: str, config: Any, processor: Any, **weights: float) -> Callable[[Path], Path]:
    name = f"{kind}ForImageClassification"
    return lambda folder: save_model(make_model(name, config, **{"spread": 0.2, **weights}), folder, processor)


CLASSIFIERS = {
    "vit": save_vit,
    "convnext": save_classifier(
        "ConvNext", transformers.ConvNextConfig(num_stages=2, **STAGES, **NAMES), {**CONVNEXT, "crop_pct": 0.9}
    ),
    "resnet": save_classifier(
        "ResNet", transformers.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES, **NAMES), CONVNEXT
    ),
    "swin": save_classifier(
        "Swin",
        transformers.SwinConfig(
            image_size=64, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4, **NAMES
        ),
        VIT,
    ),
    "dinov2": save_classifier(
        "Dinov2",
        transformers.Dinov2Config(
            image_size=64, patch_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, **NAMES
        ),
        {**CLIP, "image_processor_type": "BitImageProcessor"},
    ),
    "mobilevit": save_classifier(
        "MobileViT",
        transformers.MobileViTConfig(
            image_size=64, hidden_sizes=[16, 20, 24], neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 16], **NAMES
        ),
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 72}, "crop_size": 64},
        spread=0.3,
        gain=1.8,
    ),
    "several labels": save_classifier(
        "ViT", transformers.ViTConfig(**VISION, **NAMES, problem_type="multi_label_classification"), VIT
    ),
}


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classes_are_those_of_the_pipeline(kind: str, tmp_path: Path) -> None:
    spec = resolve(CLASSIFIERS[kind](tmp_path / "tiny"), top_k=7)
    assert spec.task == "classification"
    assert spec.gflops
    columns = predict([spec], IMAGES, batch_size=4, threads=2)
    for row, answers in enumerate(own_answers(tmp_path / "tiny", top_k=7)):
        assert columns["classification_top_labels"][row] == [answer["label"] for answer in answers]
        expected = [answer["score"] for answer in answers]
        np.testing.assert_allclose(columns["classification_top_scores"][row], expected, atol=1e-4)
    assert np.ptp(columns["classification_score"]) > 1e-3


def own_vectors(folder: Path, vector_of: Callable[[Any, Any], Any], load: Any = AutoModel) -> Any:
    processor, model = own_processor(folder), load.from_pretrained(folder).eval()
    with torch.no_grad():
        inputs = [processor(images=image, return_tensors="pt")["pixel_values"] for image in IMAGES]
        return np.concatenate([vector_of(model, pixels).reshape(1, -1).numpy() for pixels in inputs])


def pooler_output(model: Any, pixels: Any) -> Any:
    return model(pixel_values=pixels).pooler_output


def image_features(model: Any, pixels: Any) -> Any:
    return model.get_image_features(pixel_values=pixels).pooler_output


EMBEDDERS = {
    "vit": ("ViTModel", transformers.ViTConfig(**VISION), VIT, pooler_output, 32),
    "dinov2": ("Dinov2Model", transformers.Dinov2Config(**VISION), VIT, pooler_output, 32),
    "resnet": (
        "ResNetModel",
        transformers.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES),
        CONVNEXT,
        pooler_output,
        16,
    ),
    "clip": (
        "CLIPModel",
        transformers.CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=24),
        CLIP,
        image_features,
        24,
    ),
    "siglip": (
        "SiglipModel",
        transformers.SiglipConfig(vision_config=VISION, text_config=TEXT),
        {**VIT, "image_processor_type": "SiglipImageProcessor"},
        image_features,
        32,
    ),
    "siglip vision": ("SiglipVisionModel", transformers.SiglipVisionConfig(**VISION), VIT, pooler_output, 32),
}


@pytest.mark.parametrize("kind", EMBEDDERS)
def test_vectors_are_those_of_the_model(kind: str, tmp_path: Path) -> None:
    name, config, processor, vector_of, dimension = EMBEDDERS[kind]
    folder = save_model(make_model(name, config), tmp_path / "tiny", processor)
    spec = resolve(folder)
    assert (spec.task, spec.dimension) == ("embedding", dimension)
    vectors = predict([spec], IMAGES, batch_size=3)["embedding_vector"]
    expected = own_vectors(folder, vector_of, getattr(transformers, name))
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01


def test_the_projected_vector_of_a_vision_tower(tmp_path: Path) -> None:
    config = transformers.CLIPVisionConfig(**VISION, projection_dim=24)
    folder = save_model(make_model("CLIPVisionModelWithProjection", config), tmp_path / "tiny", CLIP)
    vectors = predict([resolve(folder)], IMAGES)["embedding_vector"]
    expected = own_vectors(
        folder,
        lambda model, pixels: model(pixel_values=pixels).image_embeds,
        transformers.CLIPVisionModelWithProjection,
    )
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-4)


def test_a_model_that_is_saved_without_its_pooler_gives_its_first_token(tmp_path: Path) -> None:
    """As DINO's ViT on the hub: a pooler with random weights would give other vectors in each process."""
    torch.manual_seed(0)
    model = transformers.ViTModel(transformers.ViTConfig(**VISION), add_pooling_layer=False)
    folder = save_model(model, tmp_path / "tiny", VIT)
    vectors = predict([resolve(folder)], IMAGES)["embedding_vector"]
    expected = own_vectors(folder, lambda model, pixels: model(pixel_values=pixels).last_hidden_state[:, 0])
    np.testing.assert_allclose(vectors, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "dimension"), [("vit", 32), ("resnet", 16), ("dinov2", 64)])
def test_the_embedding_of_a_classifier_is_what_its_last_layer_gets(kind: str, dimension: int, tmp_path: Path) -> None:
    folder = CLASSIFIERS[kind](tmp_path / "tiny")
    both = [resolve(folder, task=task) for task in ("classification", "embedding")]
    assert both[1].dimension == dimension
    columns = predict(both, IMAGES)
    model = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    layers = [layer for layer in model.classifier.modules() if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        scores = layers[-1](torch.tensor(columns["embedding_vector"])).softmax(dim=1)
    np.testing.assert_allclose(scores.max(dim=1).values.numpy(), columns["classification_score"], atol=1e-4)


def test_parts_of_weights_and_half_precision_are_loaded(tmp_path: Path) -> None:
    whole = save_vit(tmp_path / "whole")
    model = transformers.AutoModelForImageClassification.from_pretrained(whole)
    parts = save_model(model, tmp_path / "parts", VIT, max_shard_size="20KB")
    assert len(list(parts.glob("model-*.safetensors"))) > 2
    halves = save_model(model.half(), tmp_path / "halves", VIT)
    columns = [predict([resolve(folder)], IMAGES) for folder in (whole, parts, halves)]
    assert columns[0] == columns[1]
    np.testing.assert_allclose(columns[0]["classification_score"], columns[2]["classification_score"], atol=0.02)


def test_bfloat16_changes_little(tmp_path: Path) -> None:
    spec = resolve(save_vit(tmp_path / "tiny"), task="embedding")
    exact = np.array(predict([spec], IMAGES)["embedding_vector"])
    low = np.array(predict([spec], IMAGES, setting=InferenceSettings(precision="bf16"))["embedding_vector"])
    cosines = (exact * low).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(low, axis=1)
    assert cosines.min() > 0.995
    assert not np.array_equal(exact, low)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = save_vit(tmp_path / "tiny")
    other = make_model("ViTModel", transformers.ViTConfig(**VISION))
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"its weights lack \d+ tensors of ViTForImageClassification, such as class"):
        resolve(folder)


def test_images_that_a_network_cannot_take_are_refused(tmp_path: Path) -> None:
    folder = save_vit(tmp_path / "tiny")
    text = (folder / "preprocessor_config.json").read_text().replace("64", "80")
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"ViTForImageClassification fails with 80 × 80 pixels: .*64"):
        resolve(folder)
