"""Measures `cvbatch train` against a plain PyTorch loop: `python jobs/benchmark/training.py [steps cached killed]`.

`steps`: EfficientNet-Lite0, all layers, on JPEGs of 320 × 240 in folders, with random crops and mirror images, fp32.
The plain loop is one process as the tutorials have it: `ImageFolder`, torchvision's transforms, a `DataLoader` with as
many worker processes as we have reading threads, the same network with the same first weights, optimizer, batches and
number of threads. Ours runs in one process, too, so that the start of Ray is no part of it. `waiting` is our share of
the time in which the network waited for images. `cached`: the head alone on a frozen backbone, where ours computes
features once; the whole time of all epochs, validation left out in both. `killed`: the command with Ray, undisturbed,
and with its worker killed in the middle of its epochs; both from start to end. The turns of both ways alternate. Prints
JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CLASSES = 4
WIDTH, HEIGHT = 320, 240
BATCH = 32


def write_images(folder: Path, each: int) -> None:
    """Write smooth random images, with colours that differ between classes."""
    draw = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / f"class{number}").mkdir(parents=True)
        for index in range(each):
            coarse = draw.integers(0, 200, (12, 16, 3)) + 18 * number
            image = Image.fromarray(coarse.astype(np.uint8)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
            image.save(folder / f"class{number}" / f"{index:04d}.jpg", quality=88)


def make_job(images: Path, output: Path, stage: dict[str, Any], size: int, workers: int, **compute: Any) -> Any:
    """A job of `cvbatch train`."""
    from cvbatch.config.train_job import TrainJob

    return TrainJob.model_validate(
        {
            "task": "classification",
            "model": "efficientnet_lite0",
            "source": str(images),
            "truth": str(images),
            "output": str(output),
            "image_size": size,
            "batch_size": BATCH,
            "split": {"validation": 0.05},
            "augment": {"crop": [0.5, 1], "colour": 0},
            "stages": [stage],
            "compute": {"readers": workers, "checkpoint_minutes": 60, **compute},
        }
    )


def run_ours(images: Path, output: Path, stage: dict[str, Any], size: int, workers: int) -> dict[str, float]:
    """Steps a second of our loop in this process, and its share of waiting."""
    from cvbatch.engine.training_workers import work_in_process
    from cvbatch.training.fitting import train_model
    from cvbatch.training.torch import setup

    started = list[float]()
    start_stage = setup.LearningSetup.start_stage

    def timed_start(self: Any, *arguments: Any) -> Any:
        began = time.perf_counter()
        run = start_stage(self, *arguments)
        started.append(time.perf_counter() - began)
        return run

    setup.LearningSetup.start_stage = timed_start  # type: ignore[method-assign]
    try:
        job = make_job(images, output, stage, size, workers)
        report = train_model(job, judged=False, run_workers=work_in_process)
    finally:
        setup.LearningSetup.start_stage = start_stage  # type: ignore[method-assign]
    rows = report.state.history
    seconds = sum(row["seconds"] for row in rows) + sum(started)
    return {
        "steps_per_second": rows[-1]["steps"] / seconds,
        "waiting": sum(row["waiting"] * row["seconds"] for row in rows) / sum(row["seconds"] for row in rows),
    }


def run_plain(images: Path, stage: dict[str, Any], size: int, workers: int) -> dict[str, float]:
    """Steps a second of a plain loop in this process."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from cvbatch.config.job import ModelConfig
    from cvbatch.models.resolve import resolve_models
    from cvbatch.training.torch.networks import build_network

    (spec,) = resolve_models([ModelConfig(model="efficientnet_lite0")])
    network = build_network(spec, CLASSES, keep_head=False, seed=0)
    module, is_head = network.module.to(memory_format=torch.channels_last), stage["layers"] == "head"
    to_tensor = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(network.mean, network.std)]
    mode = v2.InterpolationMode.BICUBIC
    random = [v2.RandomResizedCrop(size, (0.5, 1), interpolation=mode), v2.RandomHorizontalFlip()]
    plain = [v2.Resize(round(size * 256 / 224), interpolation=mode), v2.CenterCrop(size)]
    data = ImageFolder(str(images), v2.Compose([*(plain if is_head else random), *to_tensor]))
    count = int(len(data) * 0.95)
    chosen = torch.utils.data.Subset(data, list(range(count)))
    loader = DataLoader(
        chosen, BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True, prefetch_factor=3
    )
    parameters = [
        parameter.requires_grad_(not is_head or name in network.head) for name, parameter in module.named_parameters()
    ]
    optimizer = torch.optim.AdamW([parameter for parameter in parameters if parameter.requires_grad], lr=1e-3)
    module.train(not is_head)
    steps, started = 0, time.perf_counter()
    for _ in range(stage["epochs"]):
        for batch, labels in loader:
            loss = torch.nn.functional.cross_entropy(
                module(batch.contiguous(memory_format=torch.channels_last)), labels
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            float(loss.detach())
            steps += 1
    return {"steps_per_second": steps / (time.perf_counter() - started)}


def measure_ratio(stage: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turn, each turn in a process of its own."""
    turns: dict[str, list[dict[str, float]]] = {"ours": [], "plain": []}
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder) / "images", options.each)
        for turn in range(options.turns):
            for way in ("ours", "plain"):
                request = {"way": way, "stage": stage, "folder": folder, "turn": turn, "size": options.size}
                command = [sys.executable, __file__, "--one", json.dumps({**request, "workers": options.workers})]
                done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
                turns[way].append(json.loads(done.stdout.splitlines()[-1]))
    rates = {way: [turn["steps_per_second"] for turn in all_turns] for way, all_turns in turns.items()}
    ratios = [ours / plain for ours, plain in zip(rates["ours"], rates["plain"], strict=True)]
    waiting = statistics.median(turn["waiting"] for turn in turns["ours"])
    return {
        "ours_steps_per_second": rates["ours"],
        "plain_steps_per_second": rates["plain"],
        "ratios": ratios,
        "ratio": statistics.median(ratios),
        "waiting": waiting,
    }


def run_one(request: dict[str, Any]) -> None:
    """One turn of one way."""
    folder = Path(request["folder"])
    arguments = (request["stage"], request["size"], request["workers"])
    if request["way"] == "ours":
        result = run_ours(folder / "images", folder / f"out-{request['turn']}-{time.time_ns()}", *arguments)
    else:
        result = run_plain(folder / "images", *arguments)
    print(json.dumps(result))


def measure_kill(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the command, undisturbed and with its worker killed."""
    import yaml

    seconds: dict[str, list[float]] = {"undisturbed": [], "killed": []}
    stage = {"layers": "all", "epochs": options.epochs}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        write_images(images, options.each)
        for turn in range(options.turns):
            for way, times in seconds.items():
                output = Path(folder) / f"{way}-{turn}"
                job = make_job(images, output, stage, options.size, options.workers)
                path = Path(folder) / f"{way}-{turn}.yaml"
                path.write_text(yaml.safe_dump(job.model_dump(mode="json", exclude_defaults=True)))
                started = time.perf_counter()
                command = [sys.executable, "-m", "cvbatch", "train", str(path), "--json"]
                process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
                if way == "killed":
                    kill_worker(process.pid, output, options.epochs // 2)
                if process.wait() != 0:
                    raise RuntimeError(f"the {way} training ended with {process.returncode}")
                times.append(time.perf_counter() - started)
    ratios = [killed / other for killed, other in zip(seconds["killed"], seconds["undisturbed"], strict=True)]
    return {**seconds, "ratios": ratios, "ratio": statistics.median(ratios)}


def kill_worker(driver: int, output: Path, epoch: int) -> None:
    """Wait until some epochs are finished, and kill the worker in the middle of the next one."""
    from cvbatch.output.store import LocalStore
    from cvbatch.training.progress import read_progress

    while True:
        progress = read_progress(LocalStore(str(output)))
        if progress is not None and progress.epoch > epoch:
            break
        time.sleep(0.2)
    stats = [(path, path.read_text().rpartition(")")[2].split()) for path in Path("/proc").glob("[0-9]*/stat")]
    parents = {int(path.parent.name): int(fields[1]) for path, fields in stats}

    def belongs(process: int) -> bool:
        return process == driver or (parents.get(process, 0) > 1 and belongs(parents[process]))

    for process in parents:
        if b"RayTrainWorker" in Path(f"/proc/{process}/cmdline").read_bytes() and belongs(process):
            os.kill(process, signal.SIGKILL)
            return
    raise RuntimeError("no worker was found")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description="Measures cvbatch train against a plain PyTorch loop.")
    parser.add_argument("sections", nargs="*", default=["steps", "cached", "killed"])
    parser.add_argument("--each", type=int, default=160, help="images of each of four classes")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side")
    parser.add_argument("--workers", type=int, default=2, help="reading threads, and processes of the plain loop")
    parser.add_argument("--epochs", type=int, default=8, help="epochs of the training that is killed")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(json.loads(options.one))
        return
    answer: dict[str, Any] = {}
    if "steps" in options.sections:
        answer["steps"] = measure_ratio({"layers": "all", "epochs": 3, "rate": 0.001}, options)
    if "cached" in options.sections:
        answer["cached"] = measure_ratio({"layers": "head", "epochs": 10, "rate": 0.001}, options)
    if "killed" in options.sections:
        answer["killed"] = measure_kill(options)
    print(json.dumps(answer, indent=1))


if __name__ == "__main__":
    main()
