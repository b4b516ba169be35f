"""The measurements, one function for each section of the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gpus
from images import make_images, make_mixed
from measuring import cvbatch, fresh, limits_around, script, timed_script, tune
from peers import PEERS

RESNET = ("--model", "resnet50", "--set", "models.0.weights=null")
MODELS = {
    "efficientnet_lite0": (4_000, 256),
    "nanodet_g": (2_000, 64),
    "ssdlite320_mobilenet_v3_large": (3_000, 64),
    "fasterrcnn_resnet50_fpn": (48, 8),
    "lraspp_mobilenet_v3_large": (2_000, 32),
    "deeplabv3_resnet50": (36, 8),
}
"""Number of images for the runs and for the limit of a model: a few minutes on two cores, and enough units for a steady
rate. Models with one process per core get more images: at the first commit the other processes have hardly started, and
at the last commit that counts they are half done, which is a twentieth of 1,000 images."""
_WITH_WEIGHTS = ("efficientnet_lite0", "nanodet_g")
_GPU_BOUND = "convnext_large"
"""A network so large that the GPU is the bottleneck, not the cores that decode."""
_GPU_IMAGES = 20_480
_LONG_RUN = 200_000
_LARGE = (4000, 3000)
_LARGE_IMAGES = 200
_MIXED_IMAGES = 1_000
_ROWS = (1_000, 10_000)
_TASKS = ("classification", "embedding", "detection", "segmentation")
_TASK_IMAGES = 500
_BUCKET_IMAGES = 1_000
_BUCKET_KEYS = 20_000


@dataclass(frozen=True)
class Sizes:
    """Sizes of the measurements."""

    folder: Path
    images: int
    plan_rows: int
    rows: int
    peers: tuple[str, ...]
    models: tuple[str, ...]
    repeats: int


def classification(sizes: Sizes) -> dict[str, Any]:
    """ResNet-50 against its limit and the peers, on the same files at the same time."""
    photos = _photos(sizes, sizes.images)
    started = time.monotonic()
    plan = tune(_repeated(photos), sizes.folder / "out", *RESNET)
    plan["tuning_seconds"] = time.monotonic() - started
    ours, limits, peers = [], [], dict[str, list[dict[str, float]]]()
    for _ in range(sizes.repeats):
        run = partial(cvbatch, photos, sizes.folder / "out", *RESNET)
        limit, run_result = limits_around(photos, "resnet50", plan["parity"]["setting"], 256, run)
        limits.append(limit)
        ours.append(run_result)
        for peer in sizes.peers:
            timing = timed_script("peers.py", peer, photos, fresh(sizes.folder / peer))
            measured = {"rate": sizes.images / timing.seconds, "megabytes": timing.megabytes}
            peers.setdefault(peer, []).append(measured)
    return {"images": sizes.images, "plan": plan, "limits": limits, "cvbatch": ours, "peers": peers}


def models(sizes: Sizes) -> dict[str, Any]:
    """Other networks against their limits."""
    results = {}
    for model in sizes.models:
        count, few = MODELS[model]
        photos = _photos(sizes, count)
        arguments = ("--model", model, *(() if model in _WITH_WEIGHTS else ("--set", "models.0.weights=null")))
        setting = cvbatch(_photos(sizes, 2), sizes.folder / "out", *arguments)["setting"]
        results[model] = {"images": count, **_between_limits(sizes, photos, model, setting, few, arguments)}
    return results


def gpu_bound(sizes: Sizes) -> dict[str, Any]:
    """A large network: how busy the GPU is when it is the bottleneck; nothing without a GPU."""
    if gpus.PRESENT is None:
        return {}
    photos = _photos(sizes, _GPU_IMAGES)
    words = ("--model", _GPU_BOUND, "--set", "models.0.weights=null", "--set", "compute.precision=fp16")
    pairs = _between_limits(sizes, photos, _GPU_BOUND, {"precision": "fp16"}, 0, words)
    return {"model": _GPU_BOUND, "images": _GPU_IMAGES, **pairs}


def large(sizes: Sizes) -> dict[str, Any]:
    """Photos of 12 megapixels, with and without scaling while decoding."""
    photos = sizes.folder / "photos-12-megapixels"
    make_images(photos, _LARGE_IMAGES, size=_LARGE)
    off = (*RESNET, "--set", "compute.scaled_decode=off")
    return {"images": _LARGE_IMAGES, **_in_turns(sizes, {"scaled": (photos, RESNET), "full": (photos, off)})}


def mixed(sizes: Sizes) -> dict[str, Any]:
    """A folder with a tenth of broken files, against a folder without."""
    good, bad = _photos(sizes, _MIXED_IMAGES), sizes.folder / f"mixed-{_MIXED_IMAGES}"
    make_mixed(bad, good)
    lite = ("--model", "efficientnet_lite0")
    return {"images": _MIXED_IMAGES, **_in_turns(sizes, {"good": (good, lite), "mixed": (bad, lite)})}


def four_tasks(sizes: Sizes) -> dict[str, Any]:
    """The embedded model's four tasks in one pass, and in four runs."""
    photos = _photos(sizes, _TASK_IMAGES)
    chosen = [("--model", "efficientnet_lite0", "--set", f"models.0.task={task}") for task in _TASKS]
    model_words = [word for task in _TASKS for word in ("--model", "efficientnet_lite0")]
    task_words = [word for index, task in enumerate(_TASKS) for word in ("--set", f"models.{index}.task={task}")]
    alone = {task: (photos, words) for task, words in zip(_TASKS, chosen, strict=True)}
    return {"images": _TASK_IMAGES, **_in_turns(sizes, {**alone, "together": (photos, (*model_words, *task_words))})}


def growth(sizes: Sizes) -> dict[str, Any]:
    """Start-up time, large plans, and the cost of a row with a trivial model, for several numbers of rows."""
    return {
        "hundred_photos": cvbatch(_photos(sizes, 100), sizes.folder / "hundred", "--model", "efficientnet_lite0"),
        "first_block": script("scale.py", "first_block", sizes.folder, sizes.plan_rows),
        "listing": script("scale.py", "listing", sizes.folder, sizes.plan_rows),
        "rows": [script("scale.py", "rows", sizes.folder, rows) for rows in (*_ROWS, sizes.rows)],
    }


def buckets(sizes: Sizes) -> dict[str, Any]:
    """A bucket on the same machine as source and output, against the disk."""
    return dict(script("buckets.py", sizes.folder, _photos(sizes, _BUCKET_IMAGES), _BUCKET_KEYS, sizes.repeats))


def nodes(sizes: Sizes) -> dict[str, Any]:
    """Cost of scheduling alone: a model that sleeps, on one, two and four logical nodes."""
    return {str(count): script("nodes.py", sizes.folder, count) for count in (1, 2, 4)}


def _between_limits(
    sizes: Sizes, photos: Path, model: str, setting: Any, few: int, words: tuple[str, ...]
) -> dict[str, list[dict[str, Any]]]:
    """Run a job several times, each run between two measurements of its limits."""
    run = partial(cvbatch, photos, sizes.folder / "out", *words)
    pairs = [limits_around(photos, model, setting, few, run) for _ in range(sizes.repeats)]
    return {"limits": [limit for limit, _ in pairs], "cvbatch": [done for _, done in pairs]}


def _in_turns(sizes: Sizes, runs: dict[str, tuple[Path, tuple[str, ...]]]) -> dict[str, list[dict[str, Any]]]:
    """Run all jobs in turns, so that other load on the machine affects all of them."""
    results: dict[str, list[dict[str, Any]]] = {}
    for _ in range(sizes.repeats):
        for name, (photos, arguments) in runs.items():
            results.setdefault(name, []).append(cvbatch(photos, sizes.folder / "out", *arguments))
    return results


def _repeated(photos: Path) -> Path:
    """A manifest that repeats the photos, so that the run is long enough for any search of settings."""
    manifest = photos.with_suffix(".csv")
    names = [str(path) for path in sorted(photos.iterdir())]
    lines = names * (_LONG_RUN // len(names))
    manifest.write_text("\n".join(["uri", *lines, ""]))
    return manifest


def _photos(sizes: Sizes, count: int) -> Path:
    photos = sizes.folder / f"photos-{count}"
    make_images(photos, count)
    return photos


SECTIONS: dict[str, Callable[[Sizes], dict[str, Any]]] = {
    "classification": classification,
    "gpu_bound": gpu_bound,
    "models": models,
    "large": large,
    "mixed": mixed,
    "four_tasks": four_tasks,
    "growth": growth,
    "buckets": buckets,
    "nodes": nodes,
}
ALL_PEERS = tuple(PEERS)
