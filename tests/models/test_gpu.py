"""The same answers from a GPU, with several batches under way."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cvbatch.config import ModelConfig
from cvbatch.models.predictor import Predictor
from cvbatch.models.registry import resolve
from cvbatch.setting import Setting
from cvbatch.testing import generate_images
from cvbatch.views import apply

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.mark.parametrize("setting", [Setting(), Setting("fp16"), Setting(lanes=1), Setting(compiled=True)])
def test_a_gpu_answers_like_the_cpu(setting: Setting) -> None:
    (spec,) = resolve([ModelConfig(model="efficientnet_lite0")])
    images = [apply(spec.view, image) for image in generate_images([(300, 260)] * 40)]
    scores = [
        np.array(found.columns["classification_top_scores"].to_pylist())
        for found in (
            Predictor([spec]).predict({spec.view: images}, [(300, 260)] * 40),
            Predictor([spec], device="cuda", setting=setting, batch_size=8).predict(
                {spec.view: images}, [(300, 260)] * 40
            ),
        )
    ]
    np.testing.assert_allclose(scores[1], scores[0], atol=0.05)


def test_detectors_pad_similar_sizes_on_a_gpu() -> None:
    (spec,) = resolve([ModelConfig(model="fasterrcnn_mobilenet_v3_large_fpn", weights=None)])
    images = generate_images([(400, 300), (400, 310), (300, 400)])
    views = {spec.view: [apply(spec.view, image) for image in images]}
    found = Predictor([spec], device="cuda", setting=Setting("fp16", padded=True)).predict(
        views, [image.size for image in images]
    )
    assert found.errors == [None] * 3
