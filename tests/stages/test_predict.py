"""Prediction of one unit, and the reactions to failing models and devices."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.engine.weight_transfer import TransferredWeights
from cvbatch.errors import ChangedModelError, DeviceLostError, ModelError
from cvbatch.images.preprocess import View
from cvbatch.inference.predictor import probe_model
from cvbatch.inference.python.protocol import Image, Size
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.spec import ModelSpec
from cvbatch.output.store import LocalStore
from cvbatch.planning.parts import read_plan_part
from cvbatch.planning.plan import load_plan, make_plan
from cvbatch.schema import MEASURES, WORKER
from cvbatch.sources import open_source
from cvbatch.stages import predict as predict_stage
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.predict import ActorProcess, PredictActor, PredictOptions
from tests.conftest import make_photo
from tests.samples import job

VIEW = View(resize=(8, 8))
FAILURES = [ModelError("no such file"), OSError("busy"), RuntimeError("no device"), LookupError("whatever it likes")]


class Exited(BaseException):
    """Raised in place of the end of the process."""


class Moody:
    """A model that counts its loads and fails on request."""

    task = "classification"
    view = VIEW
    categories = ("dark", "bright")
    failures: Sequence[BaseException] = ()
    loaded = 0
    trouble: BaseException | None = None
    fits = 100

    def __init__(self) -> None:
        type(self).loaded += 1
        if Moody.loaded <= len(Moody.failures):
            raise Moody.failures[Moody.loaded - 1]

    def predict(self, images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        if Moody.trouble is not None:
            raise Moody.trouble
        if len(images) > Moody.fits:
            raise MemoryError
        return np.array([[1, 0]] * len(images))


@pytest.fixture(autouse=True)
def _in_a_good_mood() -> None:
    Moody.failures, Moody.loaded, Moody.trouble, Moody.fits = (), 0, None, 100


@pytest.fixture
def exits() -> list[int]:
    """Exit codes."""
    return []


@pytest.fixture
def process(exits: list[int]) -> ActorProcess:
    """A process that does not really end, and retries without pauses."""

    def exit_with(code: int) -> NoReturn:
        exits.append(code)
        raise Exited

    return ActorProcess(end=exit_with, pauses=(0.0, 0.0, 0.0))


@pytest.fixture
def restarted(process: ActorProcess) -> ActorProcess:
    return replace(process, was_restarted=lambda: True)


@pytest.fixture
def spec() -> ModelSpec:
    return probe_model(ModelSpec(alias="", task="classification", kind="python", name=f"{__name__}:Moody", view=VIEW))


@pytest.fixture
def options(tmp_path: Path, spec: ModelSpec) -> PredictOptions:
    """A plan of four photos, the third of which is not an image."""
    for number in range(4):
        make_photo(tmp_path / "photos" / f"{number}.jpg", seed=number)
    (tmp_path / "photos" / "2.jpg").write_text("not an image")
    store = LocalStore(str(tmp_path / "out"))
    photo_job = job(tmp_path / "photos", store.root)
    make_plan(store, photo_job, [spec], open_source(photo_job.source))
    Moody.loaded = 0
    decode = DecodeOptions(views=(VIEW,), max_pixels=10_000)
    return PredictOptions(
        output=store.root,
        decode=decode,
        device="cpu",
        setting=REFERENCE,
        batch_size=None,
        threads=1,
        stalled_after=600,
    )


@pytest.fixture
def unit(options: PredictOptions, tmp_path: Path) -> pa.Table:
    store = LocalStore(options.output)
    plan = json.loads(store.read_object("_cvbatch/plan.json"))
    return fetch_and_decode(read_plan_part(store, plan["parts"][0]), options.decode)


def test_pixels_are_dropped_and_predictions_added(options: PredictOptions, unit: pa.Table) -> None:
    rows = PredictActor(options)(unit)
    assert rows["row_id"].to_pylist() == [0, 1, 2, 3]
    assert rows["status"].to_pylist() == ["ok", "ok", "error", "ok"]
    assert rows["classification_label"].to_pylist() == ["dark", "dark", None, "dark"]
    assert not [name for name in rows.column_names if name.startswith(("_pixels", "_encoded"))]
    seconds = rows[f"{MEASURES}predict"].to_pylist()
    assert len(set(seconds)) == 1
    assert seconds[0] > 0


def test_a_model_error_does_not_replace_an_image_error(options: PredictOptions, unit: pa.Table) -> None:
    predict = PredictActor(options)
    Moody.trouble = ValueError("in a bad mood")
    rows = predict(unit)
    assert rows["error_type"].to_pylist() == ["ValueError", "ValueError", "UnknownFormat", "ValueError"]
    assert rows["error_stage"].to_pylist() == ["predict", "predict", "decode", "predict"]


def test_every_row_names_its_worker_process(options: PredictOptions, unit: pa.Table) -> None:
    rows = PredictActor(options)(unit)
    [about] = {json.dumps(json.loads(text)) for text in rows[WORKER].to_pylist()}
    assert json.loads(about) == {"host": platform.node(), "pid": os.getpid()}


def test_a_reduced_batch_size_is_reported_in_the_rows(options: PredictOptions, unit: pa.Table) -> None:
    predict = PredictActor(options)
    Moody.fits = 1
    first, second = predict(unit), predict(unit)
    assert first["status"].to_pylist() == ["ok", "ok", "error", "ok"]
    for rows in (first, second):
        assert json.loads(rows[WORKER][0].as_py())["batch_sizes"] == {"classification": 1}


def test_batches_of_a_large_unit_become_one_table(options: PredictOptions, tmp_path: Path) -> None:
    options = replace(options, decode=replace(options.decode, max_unit_bytes=1))
    store = LocalStore(options.output)
    plan = json.loads(store.read_object("_cvbatch/plan.json"))
    unit = fetch_and_decode(read_plan_part(store, plan["parts"][0]), options.decode)
    rows = PredictActor(options)(unit)
    assert sorted(rows["row_id"].to_pylist()) == [0, 1, 2, 3]
    assert rows[WORKER].null_count == rows[f"{MEASURES}predict"].null_count == 0


def test_a_lost_device_ends_the_process(
    options: PredictOptions, unit: pa.Table, process: ActorProcess, exits: list[int]
) -> None:
    predict = PredictActor(options, process)
    Moody.trouble = DeviceLostError("CUDA error: an illegal memory access was encountered")
    with pytest.raises(Exited):
        predict(unit)
    assert exits == [70]


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_a_constructor_failure_at_the_first_start_is_raised(
    options: PredictOptions, process: ActorProcess, exits: list[int], error: Exception
) -> None:
    Moody.failures = [error]
    with pytest.raises(ModelError, match=rf"^(.*:Moody: .*test_predict\.py, line .*: )?{error}$"):
        PredictActor(options, process)
    assert (Moody.loaded, exits) == (1, [])


@pytest.mark.parametrize("error", FAILURES, ids=repr)
def test_a_restarted_process_retries_loading(
    options: PredictOptions, unit: pa.Table, restarted: ActorProcess, exits: list[int], error: Exception
) -> None:
    Moody.failures = [error, error]
    rows = PredictActor(options, restarted)(unit)
    assert rows["status"].to_pylist() == ["ok", "ok", "error", "ok"]
    assert (Moody.loaded, exits) == (3, [])


def test_a_restarted_process_refuses_an_edited_model(
    options: PredictOptions, unit: pa.Table, restarted: ActorProcess, tmp_path: Path
) -> None:
    store = LocalStore(options.output)
    plan = load_plan(store)
    assert plan is not None
    (planned,) = plan.models
    file = tmp_path / "weights.bin"
    file.write_bytes(b"edited")
    original = replace(planned, options={"weights": str(file)}, files={str(file): "12ab"})
    predict = PredictActor(
        replace(options, weight_files=TransferredWeights(models_by_alias={original.alias: original})), restarted
    )
    assert Moody.loaded == 0
    with pytest.raises(ChangedModelError, match=r"weights\.bin in its folder has changed since this run started"):
        predict(unit)


def test_a_restarted_process_ends_after_its_last_retry(
    options: PredictOptions, restarted: ActorProcess, exits: list[int]
) -> None:
    Moody.failures = [OSError("busy")] * 9
    with pytest.raises(Exited):
        PredictActor(options, restarted)
    assert (Moody.loaded, exits) == (3, [71]), "Ray starts a process that has ended, not one that has raised"


def test_a_process_outside_an_actor_counts_as_not_restarted() -> None:
    assert ActorProcess().was_restarted() is False


def test_overlapping_units_count_their_time_once() -> None:
    now = [10.0]
    clock = predict_stage._BusyClock(now=lambda: now[0])
    with clock.busy():
        now[0] = 12.0
        with clock.busy():
            now[0] = 13.0
            assert clock.take_busy_seconds() == 3
        now[0] = 20.0
        assert clock.take_busy_seconds() == 7, "what was taken is gone, and nothing is counted twice"
    now[0] = 30.0
    with clock.busy():
        now[0] = 31.0
        assert clock.take_busy_seconds() == 1, "nobody worked from 20 to 30"
