"""Small trainings in this process: images of three shapes, and a network of few pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cvbatch.config.train_job import TrainJob
from cvbatch.engine.training_workers import work_in_process
from cvbatch.training.fitting import TrainingReport, train_model

CLASSES = ("bars", "checks", "stripes")


def patterns(folder: Path, each: int = 12, seed: int = 0) -> Path:
    """A folder for each class, with images that differ in colour and noise."""
    draw = np.random.default_rng(seed)
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(each):
            rows, columns = np.mgrid[:48, :48] // 6 % 2
            shape = (columns, rows ^ columns, rows)[number][..., None]
            place = np.kron(draw.integers(0, 60, (4, 4, 1)), np.ones((12, 12, 1)))  # no two look the same
            pixels = draw.integers(60, 180, 3) * shape + place + draw.integers(0, 15, (48, 48, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index:03d}.png")
    return folder


def train_job(images: Path, output: Path | dict[str, Any], **parts: Any) -> TrainJob:
    """A job that needs a second."""
    return TrainJob.model_validate(
        {
            "task": "classification",
            "model": "efficientnet_lite0",
            "source": str(images),
            "truth": str(images),
            "output": output if isinstance(output, dict) else str(output),
            "image_size": 32,
            "batch_size": 6,
            "stages": [{"layers": "head", "epochs": 3, "rate": 0.01}],
            "augment": "none",
            "dropout": 0.0,
            **parts,
        }
    )


def train(job: TrainJob, *, judged: bool = False) -> TrainingReport:
    """Train in this process, without Ray."""
    return train_model(job, judged=judged, run_workers=work_in_process)
