"""Measures the two rates that limit a run, each alone on this machine: decode and predict.

Usage: `python jobs/benchmark/limits.py IMAGES MODEL SETTING [COUNT]`; the setting is JSON, as in `run.json`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import gpus
import numpy as np

from cvbatch.config.job import ModelConfig
from cvbatch.images.decode import decode
from cvbatch.images.preprocess import apply_view, compute_min_decode_side
from cvbatch.inference.settings import InferenceSettings
from cvbatch.inference.torch.gpu_decode import GpuDecoder
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.stages.predict import CONCURRENT_UNITS
from cvbatch.stages.unit_predictor import load_predictor
from cvbatch.tuning.search import rate_together

_IMAGES = 256
_GPU_IMAGES = 512
_WARM_UP = 32
_REPEATS, _ENOUGH_SECONDS = 3, 20.0
_SEED = 0
_UNITS = 12
"""Passes over all images in one measurement on a GPU."""
ON_GPU = gpus.PRESENT is not None
"""Found without torch, whose threads do not survive a fork."""
_DEVICE = "cuda" if ON_GPU else "cpu"


def decode_rate(paths: list[Path], spec: ModelSpec, setting: InferenceSettings) -> float:
    """Images per second that one core reads, decodes, resizes and crops."""
    smallest = compute_min_decode_side([spec.view]) if setting.scaled_decode else None

    def work() -> None:
        for path in paths:
            decoded = decode(path.read_bytes(), max_pixels=178_000_000, min_decode_side=smallest)
            apply_view(spec.view, decoded.image, (decoded.width, decoded.height))

    return len(paths) / _median_seconds(work)


def predict_rate(paths: list[Path], spec: ModelSpec, setting: InferenceSettings, *, cores: int) -> float:
    """Images per second of the model alone, on the GPU or all cores, with pixels that are already in memory.

    If the GPU decodes, decoding is included, and encoded bytes are in memory.
    """
    with ThreadPoolExecutor(cores) as pool:
        decoded = list(pool.map(lambda path: decode(path.read_bytes(), max_pixels=178_000_000), paths))
    images = [apply_view(spec.view, picture.image) for picture in decoded]
    sizes = [(picture.width, picture.height) for picture in decoded]
    predictor = load_predictor([spec], _DEVICE, setting, None, cores)
    warm_up = min(len(paths), _WARM_UP)
    if not ON_GPU:
        predictor.predict_views({spec.view: images[:warm_up]}, sizes[:warm_up])
        return len(paths) / _median_seconds(lambda: predictor.predict_views({spec.view: images}, sizes))
    decoder = GpuDecoder((spec.view,), _DEVICE)
    files = [np.fromfile(path, np.uint8) for path in paths]

    def unit(_: int) -> None:
        pixels = images
        if setting.device_decode:
            pixels = [views[0] for views in decoder(files, [1] * len(files), sizes) if views]
        predictor.predict_views({spec.view: pixels}, sizes)

    unit_threads = CONCURRENT_UNITS[_DEVICE]
    with ThreadPoolExecutor(unit_threads) as pool:
        list(pool.map(unit, range(2 * unit_threads)))
        return len(paths) * _UNITS / _median_seconds(lambda: list(pool.map(unit, range(_UNITS))))


def rate_on_all_cores(rate: Callable[[], float], start_method: str, *, cores: int) -> float:
    """Sum of the rates of one process per core, in images per second."""
    with multiprocessing.get_context(start_method).Pool(cores) as pool:
        return sum(pool.starmap(rate, [()] * cores, chunksize=1))


def _median_seconds(work: Callable[[], object]) -> float:
    seconds = list[float]()
    while len(seconds) < _REPEATS and sum(seconds) < _ENOUGH_SECONDS:
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _limit(decoded: float, predicted: float, setting: InferenceSettings) -> float:
    if setting.device_decode:
        return predicted
    return rate_together(decoded, predicted, cores=1, on_gpu=ON_GPU)


def main() -> None:
    """Measure and print JSON."""
    folder, model, chosen, *count = sys.argv[1:]
    setting = InferenceSettings(**json.loads(chosen))
    cores = len(os.sched_getaffinity(0))
    weights = {} if model in ("efficientnet_lite0", "nanodet_g") else {"weights": None}
    (spec,) = resolve_models([ModelConfig(model=model, **weights)])
    sample_size = max(int(count[0]) if count else _IMAGES, _GPU_IMAGES if ON_GPU else 0)
    paths = sorted(Path(folder).glob("*.jpg"))
    paths = random.Random(_SEED).sample(
        paths, min(sample_size, len(paths))
    )  # the first files may be faster than the others
    decoded = decode_rate(paths, spec, setting)
    decoded_on_all_cores = rate_on_all_cores(partial(decode_rate, paths, spec, setting), "fork", cores=cores)
    predicted = predict_rate(paths, spec, setting, cores=cores)
    if not ON_GPU and spec.task in ("detection", "segmentation"):
        # jobs with boxes or masks get one process per core; torch has started by now and does not survive a fork
        alone = partial(predict_rate, paths, spec, setting, cores=1)
        predicted = max(predicted, rate_on_all_cores(alone, "spawn", cores=cores))
    rates = {
        "decode_per_core": decoded,
        "predict": predicted,
        "decode": decoded_on_all_cores,
        "limit": _limit(decoded_on_all_cores, predicted, setting),
    }
    sys.stdout.write(json.dumps({**rates, "cores": cores, "images": len(paths), "setting": str(setting)}) + "\n")


if __name__ == "__main__":
    main()
