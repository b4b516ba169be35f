"""One unit through all models: shared passes, skipped images, errors of single images."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.config.job import ModelConfig
from cvbatch.images.preprocess import View, apply_view
from cvbatch.inference.predictor import Predictor, probe_model
from cvbatch.inference.python.protocol import Image, Size
from cvbatch.inference.settings import InferenceSettings
from cvbatch.models import resolve
from cvbatch.models.spec import ModelSpec
from cvbatch.testing import generate_images
from tests.inference import networks
from tests.inference.networks import Light

VIEW = View(resize=(8, 8))


class Fragile:
    """Fails on every call with a white image, and remembers how many images each call had."""

    task = "classification"
    view = VIEW
    categories = ("dark", "bright")
    calls: Sequence[int] = ()

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        type(self).calls = (*self.calls, len(images))
        if any(image.min() == 255 for image in images):
            raise ValueError("too\nbright")
        share = np.stack(images).mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - share, share], axis=1)


def fragile(**options: Any) -> ModelSpec:
    return probe_model(resolve.resolve_models([ModelConfig(model=f"python:{__name__}:Fragile", **options)])[0])


def grey(*values: int | None) -> list[Image | None]:
    return [None if value is None else np.full((8, 8, 3), value, np.uint8) for value in values]


def test_one_image_that_fails_is_one_error() -> None:
    spec = fragile()
    images = grey(0, 200, 255, 10, None, 250, 20, 255)
    Fragile.calls = ()
    predictions = Predictor([spec], batch_size=8).predict_views({VIEW: images}, [(9, 9)] * 8)
    failed = [at for at, error in enumerate(predictions.errors) if error]
    assert failed == [2, 7]
    assert predictions.errors[2] is not None
    assert predictions.errors[2].message == "too bright"
    labels = predictions.columns["classification_label"].to_pylist()
    assert labels == ["dark", "bright", None, "dark", None, "bright", "dark", None]
    assert Fragile.calls[0] == 7
    assert len(Fragile.calls) < 12


def test_an_error_in_one_model_empties_the_row_in_all() -> None:
    specs = [*resolve.resolve_models([ModelConfig(model="mobilenet_v3_small", weights=None)]), fragile(alias="light")]
    pixels = [apply_view(specs[0].view, image) for image in generate_images([(50, 40)] * 2)]
    predictions = Predictor(specs).predict_views({specs[0].view: pixels, VIEW: grey(255, 0)}, [(50, 40)] * 2)
    for column in predictions.columns.values():
        assert [value is None for value in column.to_pylist()] == [True, False]


@pytest.mark.parametrize("task", ["classification", "embedding", "detection", "segmentation"])
@pytest.mark.parametrize("present", [[], [1]])
def test_columns_have_their_types_whatever_is_missing(task: str, present: list[int]) -> None:
    (spec,) = resolve.resolve_models([ModelConfig(model="efficientnet_lite0", task=task)])
    pixels = apply_view(spec.view, generate_images([(60, 50)])[0])
    images = [pixels if at in present else None for at in range(3)]
    predictions = Predictor([spec]).predict_views({spec.view: images}, [(60, 50)] * 3)
    assert {name: column.type for name, column in predictions.columns.items()} == {
        field.name: field.type for field in spec.column_fields()
    }
    for column in predictions.columns.values():
        assert pa.compute.is_valid(column).to_pylist() == [at in present for at in range(3)]


def test_one_network_and_view_is_one_pass() -> None:
    tasks = ("classification", "detection", "segmentation", "embedding")
    specs = resolve.resolve_models([ModelConfig(model="efficientnet_lite0", task=task) for task in tasks])
    images = generate_images([(50, 60)])
    views = {spec.view: [apply_view(spec.view, image) for image in images] for spec in specs}
    assert len(views) == 2
    predictor = Predictor(specs)
    assert predictor.predict_views(views, [(50, 60)]).errors == [None]
    assert {step.model_aliases for step in predictor._passes} == {"classification+embedding", "detection+segmentation"}
    assert len({id(step.network) for step in predictor._passes}) == 1


def test_two_thresholds_are_two_networks() -> None:
    name = "ssdlite320_mobilenet_v3_large"
    entries = [ModelConfig(model=name, weights=None, score_threshold=value, alias=f"d{value:.0f}") for value in (0, 1)]
    specs = resolve.resolve_models(entries)
    pixels = [np.asarray(image) for image in generate_images([(50, 60)])]
    columns = Predictor(specs).predict_views({View(): pixels}, [(50, 60)]).columns
    assert len(columns["d0_scores"][0]) > 0
    assert len(columns["d1_scores"][0]) == 0


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        "vit_b_32",
        *(
            pytest.param(name, marks=pytest.mark.slow)  # half a minute each where the processor lacks bfloat16
            for name in ("ssdlite320_mobilenet_v3_large", "lraspp_mobilenet_v3_large")
        ),
    ],
)
def test_every_kind_of_network_runs_at_lower_precision(name: str) -> None:
    (spec,) = resolve.resolve_models([ModelConfig(model=name, weights=None)])
    views = {spec.view: [apply_view(spec.view, image) for image in generate_images([(64, 64)])]}
    assert Predictor([spec], setting=InferenceSettings("bf16")).predict_views(views, [(64, 64)]).errors == [None]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_answers_nearly_the_same(precision: str) -> None:
    (spec,) = resolve.resolve_models([ModelConfig(model="efficientnet_lite0")])
    views = {spec.view: [apply_view(spec.view, image) for image in generate_images([(64, 64)])]}
    answers = [
        Predictor([spec], setting=InferenceSettings(each)).predict_views(views, [(64, 64)]).columns
        for each in ("fp32", precision)
    ]
    scores = [np.array(each["classification_top_scores"].to_pylist()) for each in answers]
    np.testing.assert_allclose(scores[1], scores[0], atol=0.05)
    assert not np.array_equal(scores[0], scores[1])


def test_threads_are_set_where_the_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    found, stack = [], np.stack

    def noting(*arguments: Any, **named: Any) -> Any:
        found.append((threading.current_thread().name.rpartition("_")[0], torch.get_num_threads()))
        return stack(*arguments, **named)

    (spec,) = resolve.resolve_models([ModelConfig(model="mobilenet_v3_small", weights=None)])
    predictor = Predictor([spec], threads=1)
    pixels = [apply_view(spec.view, image) for image in generate_images([(64, 64)])]
    monkeypatch.setattr("cvbatch.inference.torch.tensors.np.stack", noting)
    predictor.predict_views({spec.view: pixels}, [(64, 64)])
    assert ("lane", 1) in found


def test_units_at_once_share_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2)
    network = Light(lambda _: both.wait(timeout=60), parallel=True)
    shared = networks.predictor(network, monkeypatch, batch_size=4, threads=4)
    with ThreadPoolExecutor(2) as callers:
        list(callers.map(lambda value: networks.scores(shared, value), (1, 2)))
    assert sorted(network.threads) == [2, 4]


def test_read_only_pixels_are_fine() -> None:
    """Pixels come out of Arrow buffers, which are read-only."""
    (spec,) = resolve.resolve_models([ModelConfig(model="ssdlite320_mobilenet_v3_large", weights=None)])
    pixels = np.asarray(generate_images([(64, 64)])[0]).copy()
    pixels.flags.writeable = False
    assert Predictor([spec]).predict_views({View(): [pixels]}, [(64, 64)]).errors == [None]
