"""Real runs of real models in this process: an engine without Ray."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cvbatch.config.compute import ComputeConfig
from cvbatch.config.job import Job
from cvbatch.evolution.evolve import evolve_run
from cvbatch.inference.loading import probe_model
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.spec import ModelSpec
from cvbatch.output.log_records import RunState
from cvbatch.output.store import open_store
from cvbatch.pipeline import run
from cvbatch.planning.plan import load_plan
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.predict import PredictActor, PredictOptions
from cvbatch.storage.location import Location
from tests.engines import FakeEngine
from tests.test_pipeline import Seen


class LabellingEngine(FakeEngine):
    """Decodes and predicts as Ray's workers do."""

    def probe_models(self, models: Sequence[ModelSpec], compute: ComputeConfig) -> tuple[ModelSpec, ...]:
        return tuple(probe_model(model) for model in models)

    def _rows(self, unit: RowUnit, epoch: int) -> pa.Table:
        plan = load_plan(open_store(self._output))
        assert plan is not None
        views = tuple(dict.fromkeys(model.view for model in plan.models))
        decode = DecodeOptions(views=views, max_pixels=10**8, threads=2)
        options = PredictOptions(self._output, decode, "cpu", REFERENCE, None, 2, 600.0)
        return PredictActor(options)(fetch_and_decode(read_unit_rows(self._output, unit), decode))


@contextlib.contextmanager
def start_engine(output: Location, *_: object) -> Iterator[LabellingEngine]:
    """See `engine.base.StartEngine`."""
    yield LabellingEngine(output, unit_rows=1000)


def run_job(images: Path, output: Path, *models: dict[str, Any], **parts: Any) -> Job:
    return Job.model_validate(
        {"source": {"uri": str(images)}, "models": list(models), "output": {"uri": str(output)}, **parts}
    )


def label_images(job: Job) -> RunState:
    return run(job, Seen(), start_engine=start_engine)


def evolve_labels(job: Job) -> RunState:
    return evolve_run(job, Seen(), start_engine=start_engine)
