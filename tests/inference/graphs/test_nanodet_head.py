"""The embedded detector as a graph gives the boxes of the embedded detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cvbatch.config.job import ModelConfig
from cvbatch.inference.torch.nanodet_loading import load_nanodet
from cvbatch.models.resolve import resolve_models
from cvbatch.testing import predict
from tests.inference.graphs.exporting import export

data = pytest.importorskip("skimage.data", reason="real photos come with the extra `demo`")


class AllInOne(nn.Module):
    """NanoDet as its own exporter writes it: for BGR, probabilities and logits of distances side by side."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        logits, distances = self.module(batch.flip(1))
        return torch.cat([logits.sigmoid(), distances.flatten(2)], dim=2)


def test_the_boxes_are_the_same(tmp_path: Path) -> None:
    (own,) = resolve_models([ModelConfig(model="nanodet_g", score_threshold=0.2)])
    path = export(AllInOne(load_nanodet(own)), tmp_path / "nanodet.onnx", (2, 3, 416, 416))
    options = {"preprocess": "nanodet", "head": "nanodet"}
    (graph,) = resolve_models(
        [
            ModelConfig(
                model=f"onnx:{path}", task="detection", categories="coco-80", options=options, score_threshold=0.2
            )
        ]
    )
    assert graph.view == own.view
    photos = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in ("chelsea", "coffee", "astronaut")]
    expected, found = predict([own], photos), predict([graph], photos)
    assert found["detection_labels"] == expected["detection_labels"]
    for kind, tolerance in (("scores", 1e-3), ("boxes", 0.1)):
        for row, other in zip(found[f"detection_{kind}"], expected[f"detection_{kind}"], strict=True):
            np.testing.assert_allclose(row, other, atol=tolerance)
    assert sum(map(len, found["detection_labels"])) > 5
