"""The losses of torchvision's detectors: those that it computes, weighed, and added up over workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cvbatch.config.train_job import TrainJob
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View
from cvbatch.models.backends.torchvision import TORCHVISION
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import DETECTION
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.torch.base import TaskContext
from cvbatch.training.torch.boxes import BoxExample, TrueBoxes
from cvbatch.training.torch.losses import LossPart, LossParts, combine_parts
from cvbatch.training.torch.networks import build_network
from cvbatch.training.torch.torchvision_detectors import TorchvisionLearning
from cvbatch.training.torch.workers import WorkerGroup

SIZE = 64
NAMES = (None, "a", "b")


def make_task(builder: str, localisation: float = 1.0) -> tuple[TorchvisionLearning, nn.Module]:
    view = View() if builder.startswith("ssd") else View(letterbox=Letterbox(shorter=SIZE, longer=SIZE))
    spec = ModelSpec(alias="m", task=DETECTION.name, kind=TORCHVISION.name, name=builder, view=view, categories=NAMES)
    network = build_network(spec, 3, keep_head=False, seed=0)
    job = TrainJob.model_validate(
        {
            "task": DETECTION.name,
            "model": builder,
            "source": "images",
            "truth": "truth.json",
            "output": "out",
            "loss": {"localisation": localisation},
        }
    )
    plan = TrainingPlan(
        nonce="", created_at=0, identity={}, job={}, start=spec, categories=NAMES, images="", trained=0, validated=0,
        counts={}, data_sha256="",
    )  # fmt: skip
    task = TorchvisionLearning(TaskContext(job=job, plan=plan, network=network, device="cpu"))
    for layer in network.module.modules():  # its statistics are of the whole batch, which halves have not
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    return task, network.module


def examples() -> list[BoxExample]:
    draw = np.random.default_rng(0)
    made = []
    for image, boxes in enumerate(([[4, 4, 40, 44], [20, 30, 60, 60]], [[8, 8, 30, 50]], [], [[1, 30, 60, 62]])):
        corners = np.array(boxes, np.float32).reshape(-1, 4)
        labels = np.arange(len(boxes)) % 2 + 1
        truth = TrueBoxes(
            image=image,
            size=(SIZE, SIZE),
            boxes=corners,
            label_ids=labels.astype(np.int32),
            crowds=np.zeros(len(boxes), np.bool_),
        )
        made.append(
            BoxExample(
                pixels=draw.integers(0, 256, (SIZE, SIZE, 3), np.uint8),
                boxes=torch.from_numpy(corners),
                label_ids=torch.from_numpy(labels),
                truth=truth,
            )
        )
    return made


def loss_of(task: TorchvisionLearning, module: nn.Module, chosen: list[BoxExample]) -> LossParts:
    torch.manual_seed(0)
    with torch.no_grad():
        return task.compute_loss(module, *task.collate(chosen))


def values(parts: LossParts) -> dict[str, float]:
    return {name: float(value) for name, value in combine_parts(parts, WorkerGroup()).parts.items()}


@pytest.mark.parametrize("builder", ["fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large"])
def test_halves_of_a_batch_add_up_to_torchvisions_loss_of_the_whole(builder: str) -> None:
    task, module = make_task(builder)
    made = examples()
    whole = loss_of(task, module, made)
    wanted = [{"boxes": example.boxes, "labels": example.label_ids} for example in made]
    images, _ = task.collate(made)
    with torch.no_grad():
        plain: dict[str, Tensor] = module(images, wanted)
    assert sorted(values(whole).values()) == pytest.approx(sorted(float(value) for value in plain.values()), rel=1e-5)
    first, second = loss_of(task, module, made[:2]), loss_of(task, module, made[2:])
    joined = {
        name: LossPart(part.total + second[name].total, part.weight + second[name].weight, part.factor)
        for name, part in first.items()
    }
    assert values(joined) == pytest.approx(values(whole), rel=1e-4)


def test_localisation_is_weighed_and_frozen_layers_still_give_losses() -> None:
    """Also of a network whose layers are in evaluation mode, because they do not learn."""
    got: list[Any] = []
    for localisation in (1.0, 4.0):
        task, module = make_task("fasterrcnn_mobilenet_v3_large_320_fpn", localisation)
        module.eval()
        got.append(values(loss_of(task, module, examples())))
    plain, weighed = got
    assert set(plain) == {"classes", "boxes", "objectness", "proposals"}
    factors = {name: 4.0 if name in ("boxes", "proposals") else 1.0 for name in plain}
    assert weighed == pytest.approx({name: factors[name] * value for name, value in plain.items()}, rel=1e-5)
