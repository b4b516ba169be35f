"""The same answers from a GPU, with several batches under way."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from cvbatch.config.job import ModelConfig
from cvbatch.images.decode import decode
from cvbatch.images.preprocess import View, apply_view
from cvbatch.inference.predictor import Predictor
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.gpu_decode import GpuDecoder
from cvbatch.models.resolve import resolve_models
from cvbatch.testing import generate_images

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]


@pytest.mark.parametrize("setting", [InferenceSettings(), InferenceSettings("fp16"), InferenceSettings(lanes=1)])
def test_a_gpu_answers_like_the_cpu(setting: InferenceSettings) -> None:
    (spec,) = resolve_models([ModelConfig(model="efficientnet_lite0")])
    images = [apply_view(spec.view, image) for image in generate_images([(300, 260)] * 40)]
    scores = [
        np.array(found.columns["classification_top_scores"].to_pylist())
        for found in (
            Predictor([spec]).predict_views({spec.view: images}, [(300, 260)] * 40),
            Predictor([spec], device="cuda", setting=setting, batch_size=8).predict_views(
                {spec.view: images}, [(300, 260)] * 40
            ),
        )
    ]
    np.testing.assert_allclose(scores[1], scores[0], atol=0.05)


def test_detectors_pad_similar_sizes_on_a_gpu() -> None:
    (spec,) = resolve_models([ModelConfig(model="fasterrcnn_mobilenet_v3_large_fpn", weights=None)])
    images = generate_images([(400, 300), (400, 310), (300, 400)])
    views = {spec.view: [apply_view(spec.view, image) for image in images]}
    found = Predictor([spec], device="cuda", setting=InferenceSettings("fp16", padded=True)).predict_views(
        views, [image.size for image in images]
    )
    assert found.errors == [None] * 3


def test_a_gpu_decodes_like_the_host() -> None:
    views = (View(resize=256, crop=(224, 224)), View())
    files, sizes = [], [(500, 375), (375, 500), (640, 480)]
    # as smooth as photos are: where colours jump, decoders differ by what they make of colours between pixels
    images = [image.resize(size, Image.Resampling.BICUBIC) for size in sizes for image in generate_images([(16, 12)])]
    for image in images:
        stream = io.BytesIO()
        image.save(stream, "jpeg", quality=90)
        files.append(stream.getvalue())
    files.append(b"\xff\xd8\xff no")
    encoded = [np.frombuffer(file, np.uint8) for file in files]
    *found, failed = GpuDecoder(views, "cuda")(encoded, [1] * 4, [image.size for image in images] + [(1, 1)])
    assert failed is None
    found = GpuDecoder(views, "cuda")(encoded[:3], [1] * 3, [image.size for image in images])
    for file, ours in zip(files, found, strict=False):
        assert ours is not None
        host = decode(file, max_pixels=10_000_000)
        for view, pixels in zip(views, ours, strict=True):
            assert np.abs(pixels.cpu().numpy().astype(int) - apply_view(view, host.image)).mean() < 1
