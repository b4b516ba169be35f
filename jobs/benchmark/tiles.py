"""Large pictures in tiles: the product beside a loop by hand with the same detector, in turns. Prints JSON.

    python jobs/benchmark/tiles.py PHOTOS [--count 20] [--side 8000] [--precision auto] [--repeats 1]

The pictures are mosaics of the photos of a folder, saved as JPEG. The loop decodes each with Pillow, crops tiles,
resizes them to the network's frame, runs NanoDet-g in torch on all cores in batches, and drops overlapping boxes; it
does one thing after another. The product does the same with `tiles`, as a whole process; its rate is counted from the
moment when Ray was ready, and loading the models is part of it. The loop's model is loaded before its time begins.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TILE, OVERLAP, BATCH, THRESHOLD = 1024, 0.2, 8, 0.3
DISTINCT = 4
"""Different pictures; the others are copies."""


def make_pictures(photos: Path, folder: Path, count: int, side: int) -> None:
    """Save mosaics of photos, each photo in a cell of 660 pixels."""
    files, cell = sorted(photos.rglob("*.jpg")), 660
    folder.mkdir()
    for index in range(count):
        path = folder / f"{index:03}.jpg"
        if index >= DISTINCT:
            shutil.copy(folder / f"{index % DISTINCT:03}.jpg", path)
            continue
        picture = Image.new("RGB", (side, side), (90, 120, 90))
        places = [(left, top) for top in range(0, side, cell) for left in range(0, side, cell)]
        for number, place in enumerate(places):
            with Image.open(files[(index * len(places) + number) % len(files)]) as photo:
                picture.paste(photo.convert("RGB"), place)
        picture.save(path, quality=90)


class HandLoop:
    """What a person would write: one picture after the other."""

    def __init__(self) -> None:
        from cvbatch.config.job import ModelConfig
        from cvbatch.inference.torch.nanodet_loading import load_nanodet
        from cvbatch.models.resolve import resolve_models

        config = ModelConfig(model="nanodet_g", score_threshold=THRESHOLD)
        (self.spec,) = resolve_models([config])
        self.module = load_nanodet(self.spec).eval()

    def count_boxes(self, path: Path) -> int:
        """Find the objects of one picture."""
        import torch
        from torchvision.ops import batched_nms

        from cvbatch.inference.torch.nanodet_boxes import NanoDetOutputs

        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        step = int(TILE * (1 - OVERLAP))
        starts = [[*range(0, length - TILE, step), length - TILE] for length in picture.size]
        corners = [(left, top) for top in starts[1] for left in starts[0]]
        found = []
        for low in range(0, len(corners), BATCH):
            batch = [self.pixels_of_tile(picture, corner) for corner in corners[low : low + BATCH]]
            with torch.inference_mode():
                logits, distances = self.module(torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).contiguous())
                outputs = NanoDetOutputs(logits, distances, (416, 416), [(TILE, TILE)] * len(batch))
            for corner, answer in zip(corners[low : low + BATCH], outputs.boxes(self.spec), strict=True):
                found.append((answer.boxes + np.tile(corner, 2), answer.scores, answer.label_ids))
        boxes, scores, labels = (torch.from_numpy(np.concatenate(arrays)) for arrays in zip(*found, strict=True))
        return len(batched_nms(boxes.float(), scores.float(), labels, 0.6))

    @staticmethod
    def pixels_of_tile(picture: Image.Image, corner: tuple[int, int]) -> Any:
        """Crop, resize and normalize one tile."""
        tile = picture.crop((*corner, corner[0] + TILE, corner[1] + TILE)).resize((416, 416), Image.Resampling.BILINEAR)
        mean, std = np.array([123.675, 116.28, 103.53], np.float32), np.array([58.395, 57.12, 57.375], np.float32)
        return (np.asarray(tile, np.float32) - mean) / std


def measure_loop(folder: Path, share: int) -> float:
    """Pictures per second of the loop, over every so many pictures."""
    loop, paths = HandLoop(), sorted(folder.iterdir())[::share]
    loop.count_boxes(paths[0])
    started = time.perf_counter()
    for path in paths:
        loop.count_boxes(path)
    return len(paths) / (time.perf_counter() - started)


def measure_product(folder: Path, output: Path, precision: str) -> dict[str, Any]:
    """Figures of one run."""
    from measuring import cvbatch

    tiles = f"models.0.tiles={{size: {TILE}, overlap: {OVERLAP}}}"
    options = ("--set", tiles, "--set", f"models.0.score_threshold={THRESHOLD}")
    measured = cvbatch(folder, output, "--model", "nanodet_g", *options, "--set", f"compute.precision={precision}")
    names = ("rate", "steady_rate", "stage_seconds", "busy_shares", "seconds_to_first_commit", "megabytes", "seconds")
    return {name: measured.get(name) for name in names}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--side", type=int, default=8_000)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--loop-share", type=int, default=4, help="the loop takes every so many pictures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tiles-", ignore_cleanup_errors=True) as text:
        folder = Path(text) / "pictures"
        make_pictures(options.photos, folder, options.count, options.side)
        turns = []
        for turn in range(options.repeats):
            before = measure_loop(folder, options.loop_share)
            product = measure_product(folder, Path(text) / f"output{turn}", options.precision)
            after = measure_loop(folder, options.loop_share)
            ratio = product["rate"] / ((before + after) / 2)
            turns.append({"loop": [before, after], "product": product, "ratio": ratio, "load": os.getloadavg()[0]})
        print(json.dumps(turns, indent=1))


if __name__ == "__main__":
    main()
