"""A classifier added to a finished run of four tasks, beside that classifier alone over the same images.

    python jobs/benchmark/evolve.py PHOTOS [COUNT] [--turns N]

Copies of the photos of a folder are labelled by classification, embedding, detection and segmentation first. Then
`--evolve` adds a second classifier (ResNet-18 with random weights), and a run of its own has that classifier alone,
before it and, with more turns, after it and before it again. Each is a whole process with its start. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FOUR_TASKS = [
    {"model": "efficientnet_lite0", "task": "classification"},
    {"model": "efficientnet_lite0", "task": "embedding"},
    {"model": "nanodet_g", "task": "detection"},
    {"model": "efficientnet_lite0", "task": "segmentation"},
]
CLASSIFIER = {"model": "resnet18", "weights": None, "as": "second"}


def copy_photos(photos: Path, to: Path, count: int) -> None:
    """Copy photos again and again until there are as many."""
    originals = sorted(path for path in photos.rglob("*.jpg"))
    to.mkdir()
    for index in range(count):
        shutil.copy(originals[index % len(originals)], to / f"{index:06}.jpg")


def run_job(work: Path, name: str, models: list[dict[str, object]], output: str, *options: str) -> float:
    """Seconds of `cvbatch run` as a whole process."""
    job = work / f"{name}.json"
    job.write_text(json.dumps({"source": {"uri": "photos"}, "models": models, "output": {"uri": output}}))
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "cvbatch", "run", str(job), "--json", *options],
        cwd=work,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=2_000)
    parser.add_argument("--turns", type=int, default=1, help="runs of each kind that is compared (default: 1)")
    options = parser.parse_args()
    alone, evolved = list[float](), list[float]()
    with tempfile.TemporaryDirectory(prefix="evolve-") as text:
        work = Path(text)
        copy_photos(options.photos, work / "photos", options.count)
        four = run_job(work, "four", FOUR_TASKS, "labels")
        for turn in range(options.turns):
            alone.append(run_job(work, f"alone{turn}", [CLASSIFIER], f"alone{turn}"))
            if turn:
                run_job(work, "four", FOUR_TASKS, "labels", "--evolve")  # drops the classifier again
            evolved.append(run_job(work, "five", [*FOUR_TASKS, CLASSIFIER], "labels", "--evolve"))
    result = {
        "images": options.count,
        "four_tasks_seconds": round(four, 1),
        "classifier_alone_seconds": [round(seconds, 1) for seconds in alone],
        "evolve_seconds": [round(seconds, 1) for seconds in evolved],
        "ratio": round(min(evolved) / min(alone), 2),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
