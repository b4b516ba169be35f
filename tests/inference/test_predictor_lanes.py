"""Several threads answer as one does, and memory that runs out makes batches smaller, not answers fewer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from cvbatch.config.job import ModelConfig, Task
from cvbatch.errors import DeviceLostError, NoMemoryForModelsError, RowError
from cvbatch.images.preprocess import apply_view
from cvbatch.inference import loading
from cvbatch.inference.network import Image
from cvbatch.inference.predictor import Predictor, check_models_fit
from cvbatch.models import resolve
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images
from tests.inference.conftest import Seeded
from tests.inference.networks import SPEC, VIEW, Light, bright, grey, predictor, scores

TASKS: Sequence[Task] = ("classification", "embedding")
VALUES = tuple(range(0, 250, 10))
ON_CPU = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError(ON_CPU),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes. Error code 12"),
]


def at_most(count: int, error: Exception) -> Callable[[Sequence[Image]], None]:
    """Memory for so many images."""

    def check(images: Sequence[Image]) -> None:
        if len(images) > count:
            raise error

    return check


def answers(*values: int | None) -> list[Any]:
    return [None if value is None else pytest.approx(value / 255) for value in values]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_lanes_answer_as_one_thread_does(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    network = Light(parallel=True)
    found = scores(predictor(network, monkeypatch, batch_size=3, threads=count), 7, None, *VALUES)
    assert found == answers(7, None, *VALUES)
    assert max(network.batches) <= 3


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenet_v3_small"])
def test_real_networks_answer_in_lanes_as_alone(seeded: Seeded, name: str) -> None:
    specs: list[ModelSpec] = []
    for task in TASKS:
        embedded = name == "efficientnet_lite0"
        specs += resolve.resolve_models([ModelConfig(model=name, task=task)]) if embedded else [seeded(name, task=task)]
    view = specs[0].view
    pixels = [apply_view(view, image) for image in generate_images([(60 + 9 * at, 50) for at in range(7)])]
    one, three = (
        Predictor(specs, threads=threads, batch_size=2).predict_views({view: pixels}, [(50, 50)] * 7)
        for threads in (1, 3)
    )
    assert one.errors == three.errors == [None] * 7
    for column in ("classification_top_scores", "embedding_vector"):
        alone, together = (np.array(each.columns[column].to_pylist()) for each in (one, three))
        assert len(np.unique(alone.round(4), axis=0)) == 7, "every image has an answer of its own"
        np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-5)


def test_lanes_work_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(3, timeout=30)
    network = Light(lambda images: together.wait(), parallel=True)
    found = scores(predictor(network, monkeypatch, batch_size=8, threads=3), 10, 20, 30, 40, 50, 60)
    assert found == answers(10, 20, 30, 40, 50, 60)
    assert network.batches == [2, 2, 2], "as many batches as there are lanes"


def test_a_network_that_is_not_parallel_is_never_run_twice_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running = threading.Lock()

    def alone(images: Sequence[Image]) -> None:
        assert running.acquire(blocking=False)
        time.sleep(0.01)
        running.release()

    network = Light(alone, parallel=False)
    assert scores(predictor(network, monkeypatch, batch_size=2, threads=4), *VALUES) == answers(*VALUES)
    assert set(network.batches) == {1, 2}
    assert network.threads == [4]


@pytest.mark.parametrize(("images", "share"), [(1, 4), (2, 2), (4, 1), (9, 1)])
def test_lanes_share_the_cores(monkeypatch: pytest.MonkeyPatch, images: int, share: int) -> None:
    network = Light(parallel=True)
    scores(predictor(network, monkeypatch, batch_size=8, threads=4), *VALUES[:images])
    assert network.threads == [share]


def test_one_image_that_fails_in_a_lane_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def dazzle(images: Sequence[Image]) -> None:
        if any(bright(image) > 0.9 for image in images):
            raise ValueError("too bright")

    lanes = predictor(Light(dazzle, parallel=True), monkeypatch, batch_size=4, threads=3)
    assert scores(lanes, 10, 250, 20, 30, 255, 40, 50) == answers(10, None, 20, 30, None, 40, 50)
    assert lanes.reduced_batch_sizes == {}


@pytest.mark.parametrize("threads", [1, 3])
def test_a_lost_device_is_no_error_of_a_row(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    def lose(images: Sequence[Image]) -> None:
        raise DeviceLostError("CUDA error: an illegal memory access was encountered")

    lanes = predictor(Light(lose, parallel=True), monkeypatch, batch_size=2, threads=threads)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        scores(lanes, *VALUES)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: f"{type(error).__name__} {error}"[:60])
@pytest.mark.parametrize("threads", [1, 2])
def test_batches_that_do_not_fit_are_halved_and_that_is_remembered(
    monkeypatch: pytest.MonkeyPatch, error: Exception, threads: int
) -> None:
    network = Light(at_most(4, error), parallel=True)
    lanes = predictor(network, monkeypatch, batch_size=16, threads=threads)
    assert lanes.reduced_batch_sizes == {}
    assert scores(lanes, *VALUES) == answers(*VALUES)
    assert 2 <= lanes.reduced_batch_sizes["light"] <= 4
    network.batches.clear()
    assert scores(lanes, *VALUES) == answers(*VALUES)
    assert max(network.batches) <= 4, "it does not try again what did not fit"


def test_a_batch_of_sixteen_is_halved_to_four(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Light(at_most(4, MemoryError()))
    whole = predictor(network, monkeypatch, batch_size=16)
    scores(whole, *VALUES[:16])
    assert network.batches == [16, 8, 4, 4, 8, 4, 4]
    assert whole.reduced_batch_sizes == {"light": 4}


def test_an_image_that_does_not_fit_into_memory_is_a_transient_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_bright(images: Sequence[Image]) -> None:
        if any(bright(image) > 0.9 for image in images):
            raise RuntimeError(ON_CPU)

    whole = predictor(Light(too_bright), monkeypatch, batch_size=4)
    predictions = whole.predict_views({VIEW: grey(10, 255, 20)}, [(8, 8)] * 3)
    assert [error is not None for error in predictions.errors] == [False, True, False]
    assert predictions.errors[1] == RowError("predict", "RuntimeError", ON_CPU, transient=True)


def test_other_errors_leave_the_batch_size_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predictor(Light(at_most(4, RuntimeError("shapes do not match"))), monkeypatch, batch_size=16)
    assert scores(whole, *VALUES) == answers(*VALUES)
    assert whole.reduced_batch_sizes == {}


def test_two_units_at_once_share_the_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many batches are under way as there are lanes, and no more, however many ask."""
    most, now, lock = [0], [0], threading.Lock()
    both = threading.Barrier(2, timeout=30)

    def watch(_: Sequence[Image]) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= 1

    shared = predictor(Light(watch, parallel=True), monkeypatch, batch_size=2, threads=2)

    def ask(value: int) -> list[Any]:
        both.wait()
        return scores(shared, *[value] * 8)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(ask, (10, 20))) == [answers(*[10] * 8), answers(*[20] * 8)]
    assert most[0] == 2


def test_units_take_turns_with_a_network_that_is_not_parallel(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = set[str]()
    network = Light(lambda _: threads.add(threading.current_thread().name), parallel=False)
    shared = predictor(network, monkeypatch, batch_size=1, threads=4)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda value: scores(shared, *[value] * 4), range(3)))
    assert len(threads) == 1


def two_networks(monkeypatch: pytest.MonkeyPatch, *networks: Light) -> Predictor:
    loaded = iter(networks)
    monkeypatch.setattr(loading, "load_network", lambda *_, **__: next(loaded))
    return Predictor([SPEC, replace(SPEC, alias="other", name="m:g")], batch_size=4, threads=1)


def test_no_memory_for_the_first_image_beside_another_network_is_an_error_of_the_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = two_networks(monkeypatch, Light(), Light(at_most(0, MemoryError())))
    with pytest.raises(NoMemoryForModelsError, match="no memory for a single image of other beside the other models"):
        together.predict_views({VIEW: grey(1, 2, 3)}, [(8, 8)] * 3)


def test_later_images_that_do_not_fit_are_errors_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse_dark(images: Sequence[Image]) -> None:
        if any(image.mean() == 0 for image in images):
            raise MemoryError

    together = two_networks(monkeypatch, Light(), Light(refuse_dark))
    together.predict_views({VIEW: grey(5)}, [(8, 8)])
    errors = together.predict_views({VIEW: grey(5, 0, 7)}, [(8, 8)] * 3).errors
    assert [error and error.type for error in errors] == [None, "MemoryError", None]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_models_that_cannot_be_loaded_beside_each_other_are_told_apart_from_other_errors(error: Exception) -> None:
    both = [SPEC, replace(SPEC, alias="other", name="m:g")]
    expected = "no memory for light, other beside each other"
    with pytest.raises(NoMemoryForModelsError, match=expected), check_models_fit(both):
        raise error
    with pytest.raises(type(error)), check_models_fit([SPEC, replace(SPEC, alias="same")]):
        raise error
    with pytest.raises(RuntimeError, match="size mismatch"), check_models_fit(both):
        raise RuntimeError("size mismatch")
