"""The loss of segmentation, with its auxiliary head, and images of several sizes in a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cvbatch.config.train_job import TrainJob
from cvbatch.images.preprocess import View
from cvbatch.models.backends.torchvision import TORCHVISION
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import SEGMENTATION
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.torch.base import TaskContext
from cvbatch.training.torch.losses import combine_parts
from cvbatch.training.torch.networks import LearningNetwork, build_network
from cvbatch.training.torch.segmentation import SegmentationLearning, SegmentExample
from cvbatch.training.torch.workers import WorkerGroup

NAMES = (None, "a", "b")
COUNTS = {"background": 60, "a": 30, "b": 10}


def make_task(builder: str, **loss: Any) -> tuple[SegmentationLearning, LearningNetwork]:
    spec = ModelSpec(
        alias="m", task=SEGMENTATION.name, kind=TORCHVISION.name, name=builder, view=View(resize=48), categories=NAMES
    )
    network = build_network(spec, 3, keep_head=False, seed=0)
    network.module.eval()
    data = {"task": SEGMENTATION.name, "model": builder, "source": "a", "truth": "b", "output": "c", "loss": loss}
    plan = TrainingPlan(
        nonce="", created_at=0, identity={}, job={}, start=spec, categories=NAMES, images="", trained=0, validated=0,
        counts=COUNTS, data_sha256="",
    )  # fmt: skip
    job = TrainJob.model_validate(data)
    return SegmentationLearning(TaskContext(job=job, plan=plan, network=network, device="cpu")), network


def examples() -> list[SegmentExample]:
    """Images of two sizes; some pixels do not count."""
    draw = np.random.default_rng(0)
    made = []
    for height, width in ((48, 64), (56, 48)):
        labels = draw.integers(-1, 3, (height, width))
        pixels = draw.integers(0, 256, (height, width, 3), np.uint8)
        made.append(SegmentExample(pixels=pixels, labels=torch.from_numpy(labels), truth=labels))
    return made


def mean_entropy(logits: np.ndarray, labels: list[np.ndarray], weights: np.ndarray) -> float:
    """Σ w[y] (−log p[y]) / Σ w[y] over the pixels that count."""
    total = counted = 0.0
    for of_image, truth in zip(logits.astype(np.float64), labels, strict=True):
        inside = of_image[:, : truth.shape[0], : truth.shape[1]]
        logs = inside - np.log(np.exp(inside).sum(axis=0))
        for label in range(len(weights)):
            total -= weights[label] * logs[label][truth == label].sum()
            counted += weights[label] * (truth == label).sum()
    return total / counted


@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_is_the_formula(balanced: bool) -> None:
    options: dict[str, Any] = {"class_weights": "balanced"} if balanced else {}
    task, network = make_task("deeplabv3_mobilenet_v3_large", auxiliary=0.3, **options)
    weights = np.array([100 / (3 * count) if balanced else 1.0 for count in COUNTS.values()])
    inputs, targets = task.collate(examples())
    assert inputs.shape == (2, 3, 56, 64)
    with torch.no_grad():
        outputs = network.module(inputs)
        got = combine_parts(task.compute_loss(network.module, inputs, targets), WorkerGroup()).parts
    labels = [example.labels.numpy() for example in targets.examples]
    expected = {
        "pixels": mean_entropy(outputs["out"].numpy(), labels, weights),
        "auxiliary": 0.3 * mean_entropy(outputs["aux"].numpy(), labels, weights),
    }
    assert {name: float(value) for name, value in got.items()} == pytest.approx(expected, abs=1e-5)


def test_the_score_is_that_of_the_whole_image_without_what_fills_up() -> None:
    task, network = make_task("lraspp_mobilenet_v3_large")
    together, alone = [], []
    with torch.no_grad():
        together.append(task.answer(network.module, *task.collate(examples())))
        alone += [task.answer(network.module, *task.collate([example])) for example in examples()]
    assert task.score(together) == task.score(alone)
    pixels = sum(int((example.labels >= 0).sum()) for example in examples())
    assert together[0]["pixels"][:, 1].sum() == together[0]["pixels"][:, 2].sum() == pixels


def test_statistics_without_trained_ones_follow_the_batches() -> None:
    _, network = make_task("lraspp_mobilenet_v3_large")
    momenta = {layer.momentum for layer in network.module.modules() if isinstance(layer, nn.BatchNorm2d)}
    assert momenta == {0.1}


def test_a_head_has_the_layers_of_the_auxiliary_one_too() -> None:
    _, network = make_task("deeplabv3_mobilenet_v3_large")
    assert {name.split(".")[0] for name in network.head} == {"classifier", "aux_classifier"}
