"""Answers of models of timm through the product: those of timm itself, on the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.inference.loading import probe_model
from cvbatch.models.backends import backend_of
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images, predict
from tests.rigs.timm_models import TINY, make_timm_model, save_timm_model

IMAGES = generate_images()
NAMES = [f"class {label}" for label in range(7)]


def resolve(model: Path | str, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"timm:{model}", **options})])
    return probe_model(spec)


def own_answers(folder: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Probabilities and features of all images, as timm's page about feature extraction computes them."""
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    with torch.inference_mode():
        batch = torch.stack([transform(image) for image in IMAGES])
        features = model.forward_head(model.forward_features(batch), pre_logits=True)
        return model(batch).softmax(1).numpy(), features.numpy()


SLOW_ONES = ("test_convnext", "test_byobnet", "test_mambaout")
ARCHITECTURES = [TINY, "test_efficientnet", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_ONES)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_and_features_are_those_of_timm(architecture: str, tmp_path: Path) -> None:
    folder = save_timm_model(tmp_path / "tiny", architecture, label_names=NAMES)
    scores, features = own_answers(folder)
    specs = [resolve(folder, top_k=7), resolve(folder, task="embedding")]
    assert specs[1].dimension == features.shape[1]
    found = predict(specs, IMAGES)
    order = np.array(found["classification_top_label_ids"])
    np.testing.assert_allclose(
        found["classification_top_scores"], np.take_along_axis(scores, order, axis=1), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(np.stack(found["embedding_vector"]), features, rtol=1e-3, atol=1e-4)
    assert np.ptp(scores, axis=0).max() > 1e-3, "answers must vary"


def test_random_weights_follow_the_seed() -> None:
    first, second, again = (resolve(TINY, weights=None, seed=seed, task="embedding") for seed in (1, 2, 1))
    vectors = [np.stack(predict([spec], IMAGES[:2])["embedding_vector"]) for spec in (first, second, again)]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])
    assert first.gflops == pytest.approx(0.04, abs=0.04)


@pytest.mark.parametrize("form", ["safetensors", "training"])
def test_own_weights_give_the_answers_of_their_network(form: str, tmp_path: Path) -> None:
    """As `safetensors`, and as timm's training script writes them, with its arguments beside."""
    import argparse

    model = make_timm_model("test_resnet", num_classes=3)
    file = tmp_path / "own.pth.tar"
    if form == "safetensors":
        save_file(model.state_dict(), file)
    else:
        torch.save({"epoch": 1, "state_dict": model.state_dict(), "args": argparse.Namespace(lr=1)}, file)
    names = ["cat", "dog", "bird"]
    spec = resolve("test_resnet", checkpoint=str(file), categories=names)
    config = timm.data.resolve_model_data_config(model)
    with torch.inference_mode():
        batch = torch.stack([timm.data.create_transform(**config)(image) for image in IMAGES])
        expected = model(batch).argmax(1).tolist()
    assert predict([spec], IMAGES)["classification_label_id"] == expected
    with pytest.raises(ModelError, match=r"2 categories need a head fc\.weight of 2×"):
        resolve("test_resnet", checkpoint=str(file), categories=["cat", "dog"])
    with pytest.raises(ModelError, match="is not of test_vit"):
        resolve(TINY, checkpoint=str(file), categories=names)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    folder = save_timm_model(tmp_path / "tiny", label_names=NAMES)
    state = load_file(folder / "model.safetensors")
    del state["norm.weight"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"timm:tiny: cannot be loaded: .*norm\.weight") as caught:
        resolve(folder)
    assert "\n" not in str(caught.value)


def test_settings_of_torch_apply(tmp_path: Path) -> None:
    spec = resolve(TINY, weights=None)
    assert backend_of(spec).applicable_settings(spec) == {
        "precision", "device_decode", "channels_last", "batch_factor", "lanes",
    }  # fmt: skip
