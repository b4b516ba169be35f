"""Graphs that real exporters write from real or large networks; each takes seconds to minutes."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from cvbatch.config.job import ModelConfig
from cvbatch.images.preprocess import View, apply_view
from cvbatch.models.resolve import resolve_models
from cvbatch.testing import generate_images, predict, seeded_checkpoint
from tests.inference.graphs.exporting import export, resolve

pytestmark = pytest.mark.slow
SIZES = [(120 + 3 * number, 300 - 2 * number) for number in range(100)]


@pytest.mark.parametrize("builder", ["resnet18", "mobilenet_v3_small"])
def test_a_network_of_torchvision_and_its_export_agree_on_a_hundred_photos(builder: str, tmp_path: Path) -> None:
    from torchvision import models as zoo

    entry = seeded_checkpoint(builder, tmp_path)
    (twin,) = resolve_models([ModelConfig.model_validate({**entry, "top_k": 1})])
    module = zoo.get_model(builder, num_classes=len(entry["categories"]))
    module.load_state_dict(torch.load(entry["checkpoint"], weights_only=True))
    path = export(module, tmp_path / "twin.onnx", (2, 3, 224, 224))
    spec = resolve(path, categories=entry["categories"], options={"preprocess": "imagenet"}, top_k=1)
    assert spec.view == twin.view
    assert spec.gflops == pytest.approx(twin.gflops, rel=0.05)
    images = generate_images(SIZES)
    expected, found = predict([twin], images), predict([spec], images)
    assert found["classification_label"] == expected["classification_label"]
    np.testing.assert_allclose(found["classification_score"], expected["classification_score"], atol=1e-4)
    assert len(set(found["classification_label"])) >= 5


KERAS = """
import sys
import numpy as np
import keras
keras.utils.set_random_seed(0)
layers = [
    keras.layers.Rescaling(1 / 127.5, offset=-1),
    keras.layers.Conv2D(8, 5, strides=4, activation="relu"),
    keras.layers.GlobalAveragePooling2D(),
    keras.layers.Dense(5, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=9)),
]
model = keras.Sequential([keras.Input((64, 48, 3)), *layers])
images = np.load(sys.argv[1] + "/images.npy")
np.save(sys.argv[1] + "/scores.npy", keras.ops.convert_to_numpy(model(images)))
model.export(sys.argv[1] + "/keras.onnx", format="onnx", verbose=False)
"""


@pytest.mark.skipif(find_spec("keras") is None, reason="Keras is not installed")
def test_a_model_of_keras_and_its_export_agree(tmp_path: Path) -> None:
    images = generate_images(SIZES[:20])
    view = View(resize=(64, 48))
    np.save(tmp_path / "images.npy", np.stack([apply_view(view, image) for image in images]).astype(np.float32))
    subprocess.run([sys.executable, "-c", KERAS, tmp_path], env={**os.environ, "KERAS_BACKEND": "torch"}, check=True)
    options = {"preprocess": "raw", "fit": "stretch"}
    spec = resolve(tmp_path / "keras.onnx", categories=list("abcde"), options=options, top_k=5)
    assert (spec.view, spec.options["layout"], spec.options["scores"]) == (view, "nhwc", "probabilities")
    columns = predict([spec], images)
    scores = np.load(tmp_path / "scores.npy")
    for row, expected in enumerate(scores):
        best = np.argsort(-expected)
        assert columns["classification_label"][row] == "abcde"[best[0]]
        np.testing.assert_allclose(columns["classification_top_scores"][row], expected[best], atol=1e-4)
    assert len(set(columns["classification_label"])) > 1
