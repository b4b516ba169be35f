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
ALONE_IMAGES = 48


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


def predictor_rate(path: Path, photos: Path) -> float:
    """Images per second of the product's predictor, without Ray and with decoded images in memory."""
    from PIL import Image

    from cvbatch.config.job import ModelConfig
    from cvbatch.images.preprocess import apply_view
    from cvbatch.inference.predictor import Predictor
    from cvbatch.models.resolve import resolve_models

    options = {"preprocess": "imagenet"}
    specs = resolve_models([ModelConfig(model=f"onnx:{path}", categories="imagenet-1k", options=options)])
    predictor, view = Predictor(specs), specs[0].view
    files = sorted(photos.glob("*.jpg"))[:ALONE_IMAGES]
    images = [apply_view(view, Image.open(file).convert("RGB")) for file in files]
    predictor.predict_views({view: images[:16]}, [(1, 1)] * 16)
    started = time.perf_counter()
    predictor.predict_views({view: images}, [(1, 1)] * len(images))
    return len(images) / (time.perf_counter() - started)


def measure_turn(path: Path, photos: Path, output: Path) -> dict[str, Any]:
    """Everything once, with what is alone before and after the product."""
    before = rates_alone(path)
    predictor = predictor_rate(path, photos)
    product = product_rate(path, photos, output)
    after = rates_alone(path)
    best = (max(before.values()) + max(after.values())) / 2
    return {
        "alone": [before, after],
        "predictor": predictor,
        "product": product,
        "ratio": product["steady_rate"] / best if product["steady_rate"] else None,
        "predictor_ratio": predictor / max(before.values()),
        "load": os.getloadavg()[0],
    }


def main() -> None:
    """Measure and print JSON."""
    from images import make_images

    count, repeats = (int(word) for word in (*sys.argv[1:3], *("1000", "3")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        path, photos = folder / "resnet50.onnx", folder / "photos"
        export_resnet(path)
        make_images(photos, count)
        turns = [measure_turn(path, photos, folder / f"output{turn}") for turn in range(repeats)]
        print(json.dumps(turns, indent=1))


if __name__ == "__main__":
    main()
