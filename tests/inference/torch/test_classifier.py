"""Features belong to the thread whose images they are of."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor, nn

from cvbatch.images.preprocess import View
from cvbatch.inference.torch.classifier import ClassifierNetwork, ModuleWithFeatures
from cvbatch.inference.torch.tensors import BatchNormalizer
from cvbatch.models.spec import ModelSpec

LANES = 4
SPECS = [
    ModelSpec(alias="tags", task="classification", kind="torchvision", name="m", view=View(), categories=("a", "b")),
    ModelSpec(alias="vectors", task="embedding", kind="torchvision", name="m", view=View(), dimension=12),
]


class Meeting(nn.Module):
    """Hands its input on once all threads are there."""

    def __init__(self) -> None:
        super().__init__()
        self._all = threading.Barrier(LANES, timeout=30)

    def forward(self, batch: Tensor) -> Tensor:
        self._all.wait()
        return batch


def test_each_thread_gets_the_features_of_its_own_images() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2), Meeting()).eval()  # they meet behind the head
    classifier = ClassifierNetwork(ModuleWithFeatures(network), BatchNormalizer((0, 0, 0), (1, 1, 1), "cpu"))
    images = [np.full((2, 2, 3), 10 * lane, np.uint8) for lane in range(LANES)]

    def work(lane: int) -> tuple[list[float], list[float]]:
        with torch.inference_mode():
            answers = classifier.run_batch([images[lane], images[lane]], [(2, 2)] * 2, SPECS)
        assert len(answers["tags"]) == len(answers["vectors"]) == 2
        return answers["vectors"][1].tolist(), answers["tags"][1].tolist()

    with ThreadPoolExecutor(LANES) as lanes:
        found = list(lanes.map(work, range(LANES)))
    for lane, (vector, tags) in enumerate(found):
        np.testing.assert_allclose(vector, np.full(12, 10 * lane / 255), rtol=1e-6)
        with torch.inference_mode():
            logits = network[1](torch.full((1, 12), 10 * lane / 255))
        np.testing.assert_allclose(tags, torch.softmax(logits[0], 0).numpy(), rtol=1e-5)
