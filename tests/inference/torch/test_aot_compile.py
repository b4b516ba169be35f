"""A network compiled on this machine answers like the network itself."""

from __future__ import annotations

import mmap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cvbatch.config.job import ModelConfig
from cvbatch.images.preprocess import apply_view
from cvbatch.inference.compiled_packages import compiled_package_path
from cvbatch.inference.predictor import Predictor
from cvbatch.inference.settings import REFERENCE, InferenceSettings
from cvbatch.inference.torch.aot_runner import UnlockedPackage
from cvbatch.models.backends import is_setting_applicable
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images

COMPILED = InferenceSettings(compiled=True)


def specs() -> tuple[ModelSpec, ...]:
    whole = ModelConfig(model="squeezenet1_1", weights=None)
    return resolve_models([whole, whole.model_copy(update={"task": "embedding"})])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where compiled networks are kept; compiling takes half a minute, so these tests share what is there."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "cvbatch" / "compiled"


def test_it_answers_alike_for_every_batch_size_and_is_built_once(cache: Path) -> None:
    models = specs()
    view = models[0].view
    images = [apply_view(view, image) for image in generate_images([(300, 260)] * 7)]
    answers = [
        Predictor(models, setting=each, batch_size=3, threads=2).predict_views({view: images}, [(300, 260)] * 7)
        for each in (REFERENCE, COMPILED)
    ]
    for name, column in answers[0].columns.items():
        if name.endswith(("_top_scores", "_vector")):
            got = np.array(answers[1].columns[name].to_pylist())
            np.testing.assert_allclose(got, np.array(column.to_pylist()), rtol=1e-3, atol=1e-5)
    (built,) = cache.glob("*.pt2")
    assert built == compiled_package_path(models[0], COMPILED)
    before = built.stat().st_mtime_ns
    Predictor(models, setting=COMPILED)
    assert built.stat().st_mtime_ns == before
    assert built.stat().st_mode & 0o077 == 0 or cache.stat().st_mode & 0o077 == 0


def test_other_threads_go_on_while_it_computes(cache: Path) -> None:
    (spec, _) = specs()
    Predictor([spec], setting=COMPILED)
    network = UnlockedPackage(compiled_package_path(spec, COMPILED), 2)
    batch = torch.zeros(64, 3, 224, 224).to(memory_format=torch.channels_last)
    network(batch)
    under_way, done = threading.Event(), threading.Event()

    def work() -> None:
        under_way.set()
        for _ in range(3):
            network(batch)
        done.set()

    thread = threading.Thread(target=work)
    thread.start()
    under_way.wait()
    ticks = 0
    while not done.is_set():
        time.sleep(0.001)
        ticks += 1
    thread.join()
    assert ticks > 10, "with Python's lock kept it would be one for each batch"


def test_its_weights_go_with_it(cache: Path) -> None:
    (spec, _) = specs()
    Predictor([spec], setting=COMPILED)
    batch = torch.zeros(1, 3, 224, 224).to(memory_format=torch.channels_last)

    def megabytes_after_some() -> float:
        for _ in range(10):
            UnlockedPackage(compiled_package_path(spec, COMPILED), 2)(batch)
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE / 1e6

    before = megabytes_after_some()  # with what the allocator keeps
    assert megabytes_after_some() < before + 30, "ten copies of the weights are 70 MB"


def test_only_networks_whose_views_have_one_size_are_compiled() -> None:
    configs = [
        ModelConfig(model="efficientnet_lite0"),
        ModelConfig(model="efficientnet_lite0", task="detection"),
        ModelConfig(model="lraspp_mobilenet_v3_large", weights=None),
    ]
    assert [is_setting_applicable("compiled", [spec]) for spec in resolve_models(configs)] == [True, False, False]


@pytest.mark.usefixtures("cache")
def test_another_precision_or_network_is_another_package() -> None:
    (one, _), (other,) = specs(), resolve_models([ModelConfig(model="resnet18", weights=None)])
    assert (
        len(
            {
                compiled_package_path(one, COMPILED),
                compiled_package_path(other, COMPILED),
                compiled_package_path(one, InferenceSettings("bf16", compiled=True)),
            }
        )
        == 3
    )
