"""Measures a tiny ViT of transformers, through the product and in its own `pipeline`, in turns, and prints JSON.

The pipeline reads the same photos from the disk, with the best of some batch sizes, and torch has all cores. The
product reads, decodes, predicts and writes on the same cores; its rate is that between commits. Both are measured at
fp32 and at bf16: `precision: auto` would give random weights no certificate, as their labels turn with the last digit.

    python jobs/benchmark/transformers_models.py [IMAGES] [REPEATS]
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BATCH_SIZES = (1, 8, 32)
PIPELINE_IMAGES = 128
PRECISIONS = ("fp32", "bf16")


def save_model(folder: Path) -> None:
    """Write ViT-tiny (192 wide, 12 layers) with random weights for 1,000 classes."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=192, num_attention_heads=3, intermediate_size=768, num_hidden_layers=12, num_labels=1000
    )
    ViTForImageClassification(config).eval().save_pretrained(folder)
    ViTImageProcessor().save_pretrained(folder)


def pipeline_rates(folder: Path, photos: Path, precision: str, sizes: Sequence[int] = BATCH_SIZES) -> dict[int, float]:
    """Images per second of `transformers.pipeline`, by batch size."""
    import torch
    from transformers import pipeline

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    classify = pipeline("image-classification", model=str(folder), device="cpu", dtype=dtype)
    files = [str(path) for path in sorted(photos.glob("*.jpg"))[:PIPELINE_IMAGES]]
    classify(files[:8], batch_size=8)
    rates = {}
    for size in sizes:
        started = time.perf_counter()
        classify(files, batch_size=size)
        rates[size] = len(files) / (time.perf_counter() - started)
    return rates


def product_rate(folder: Path, photos: Path, output: Path, precision: str) -> dict[str, Any]:
    """The steady rate of a run, and where its time went."""
    from measuring import cvbatch

    settings = (f"compute.precision={precision}", "compute.unit_rows=64")
    options = [word for setting in settings for word in ("--set", setting)]
    measured = cvbatch(photos, output, "--model", f"hf:{folder}", *options)
    names = ("steady_rate", "rate", "stage_seconds", "busy_shares", "seconds_to_first_commit")
    return {name: measured[name] for name in names}


def measure_turn(folder: Path, photos: Path, output: Path) -> dict[str, Any]:
    """Everything once, with the pipeline before and after the product."""
    turn: dict[str, Any] = {}
    for precision in PRECISIONS:
        before = pipeline_rates(folder, photos, precision)
        product = product_rate(folder, photos, output.with_name(f"{output.name}-{precision}"), precision)
        size = max(before, key=lambda size: before[size])
        after = pipeline_rates(folder, photos, precision, (size,))
        best = (before[size] + after[size]) / 2
        steady = product["steady_rate"]
        turn[precision] = {
            "pipeline": [before, after],
            "product": product,
            "best_of_pipeline": best,
            "ratio": steady and steady / best,
        }
    rates = [turn[precision]["best_of_pipeline"] for precision in PRECISIONS]
    steady = turn[PRECISIONS[1]]["product"]["steady_rate"]
    return {**turn, "ratio of bf16 to the pipeline's best": steady and steady / max(rates), "load": os.getloadavg()[0]}


def main() -> None:
    """Measure and print JSON."""
    from images import make_images

    count, repeats = (int(word) for word in (*sys.argv[1:3], *("1500", "1")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        model, photos = Path(name) / "vit-tiny", Path(name) / "photos"
        save_model(model)
        make_images(photos, count)
        turns = [measure_turn(model, photos, Path(name) / f"output{turn}") for turn in range(repeats)]
        print(json.dumps(turns, indent=1))


if __name__ == "__main__":
    main()
