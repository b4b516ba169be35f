"""The two rates that limit a run, measured alone on this machine: decode and predict.

Usage: `python jobs/benchmark/limits.py IMAGES MODEL SETTING [COUNT]`; the setting is JSON, as in `run.json`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from cvbatch.compute.tuning import rate_together
from cvbatch.config import ModelConfig
from cvbatch.decode import decode
from cvbatch.models.predictor import Predictor
from cvbatch.models.registry import resolve
from cvbatch.models.spec import ModelSpec
from cvbatch.setting import Setting
from cvbatch.views import apply, enough

_IMAGES = 256
_WARM_UP = 32
_REPEATS = 3
ON_GPU = torch.cuda.is_available()


def decode_rate(paths: list[Path], spec: ModelSpec, setting: Setting) -> float:
    """Images per second that one core reads, decodes, resizes and crops."""
    smallest = enough([spec.view]) if setting.scaled_decode else None

    def work() -> None:
        for path in paths:
            one = decode(path.read_bytes(), max_pixels=178_000_000, enough=smallest)
            apply(spec.view, one.image, (one.width, one.height))

    return len(paths) / _median_seconds(work)


def predict_rate(paths: list[Path], spec: ModelSpec, setting: Setting, *, cores: int) -> float:
    """Images per second that the model alone does, with the GPU or all cores, on pixels that lie ready."""
    with ThreadPoolExecutor(cores) as pool:
        decoded = list(pool.map(lambda path: decode(path.read_bytes(), max_pixels=178_000_000), paths))
    images = [apply(spec.view, one.image) for one in decoded]
    sizes = [(one.width, one.height) for one in decoded]
    predictor = Predictor([spec], device="cuda" if ON_GPU else "cpu", setting=setting, threads=cores)
    few = min(len(paths), _WARM_UP)
    predictor.predict({spec.view: images[:few]}, sizes[:few])
    return len(paths) / _median_seconds(lambda: predictor.predict({spec.view: images}, sizes))


def _median_seconds(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def main() -> None:
    """Measure and print JSON."""
    folder, model, chosen, *count = sys.argv[1:]
    setting = Setting(**json.loads(chosen))
    cores = len(os.sched_getaffinity(0))
    weights = {} if model == "efficientnet_lite0" else {"weights": None}
    (spec,) = resolve([ModelConfig(model=model, **weights)])
    paths = sorted(Path(folder).glob("*.jpg"))[: int(count[0]) if count else _IMAGES]
    decoded = decode_rate(paths, spec, setting)
    predicted = predict_rate(paths, spec, setting, cores=cores)
    rates = {
        "decode_per_core": decoded,
        "predict": predicted,
        "limit": rate_together(decoded, predicted, cores=cores, on_gpu=ON_GPU),
    }
    sys.stdout.write(json.dumps({**rates, "cores": cores, "images": len(paths), "setting": str(setting)}) + "\n")


if __name__ == "__main__":
    main()
