"""Measures ResNet-50 as an ONNX file, through the product and in ONNX Runtime alone, in turns, and prints JSON.

Alone means: decoded and normalised images in memory, one session with its own threads on all cores, the best of some
batch sizes. The product reads, decodes, predicts and writes on the same cores; its rate is that between commits.

    python jobs/benchmark/onnx_files.py [IMAGES] [REPEATS]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BATCH_SIZES = (1, 4, 8)
ALONE_IMAGES = 96


def export_resnet(path: Path) -> None:
    """Write ResNet-50 with random weights, for any number of images."""
    import torch
    from torchvision.models import resnet50

    torch.manual_seed(0)
    dynamic = ({0: torch.export.Dim("batch", min=1, max=256)},)
    images = (torch.zeros(2, 3, 224, 224),)
    torch.onnx.export(
        resnet50(weights=None).eval(), images, str(path), dynamo=True, dynamic_shapes=dynamic, verbose=False
    )


def rates_alone(path: Path) -> dict[int, float]:
    """Images per second of a session as its documentation makes it, by batch size."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    pixels = np.random.default_rng(0).normal(size=(ALONE_IMAGES, 3, 224, 224)).astype(np.float32)
    rates = {}
    for size in BATCH_SIZES:
        batches = [pixels[start : start + size] for start in range(0, ALONE_IMAGES, size)]
        session.run(None, {image.name: batches[0]})
        started = time.perf_counter()
        for batch in batches:
            session.run(None, {image.name: batch})
        rates[size] = ALONE_IMAGES / (time.perf_counter() - started)
    return rates


def product_rate(path: Path, photos: Path, output: Path) -> dict[str, Any]:
    """The steady rate of a run, and its settings."""
    from measuring import cvbatch

    options = ("models.0.categories=imagenet-1k", "models.0.options={preprocess: imagenet}")
    measured = cvbatch(
        photos, output, "--model", f"onnx:{path}", *(word for text in options for word in ("--set", text))
    )
    names = ("steady_rate", "rate", "stage_seconds", "busy_shares", "seconds_to_first_commit")
    return {name: measured[name] for name in names}


def main() -> None:
    """Measure and print JSON."""
    from images import make_images

    count, repeats = (int(word) for word in (*sys.argv[1:], "1000", "3")[:2])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "resnet50.onnx"
        export_resnet(path)
        photos = folder / "photos"
        make_images(photos, count)
        turns = []
        for turn in range(repeats):
            alone = rates_alone(path)
            through = product_rate(path, photos, folder / f"output{turn}")
            best = max(alone.values())
            load = os.getloadavg()[0]
            turns.append({"alone": alone, "product": through, "ratio": through["steady_rate"] / best, "load": load})
        alone = rates_alone(path)
        ratios = sorted(turn["ratio"] for turn in turns)
        report = {"turns": turns, "alone_at_the_end": alone, "median_ratio": ratios[len(ratios) // 2]}
        print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
