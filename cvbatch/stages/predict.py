"""The second stage: pixels → columns of predictions, in an actor with all models of the job."""

from __future__ import annotations

import json
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cvbatch.errors import ChangedModelError, DeviceLostError, NoMemoryForModelsError, RowError, try_call
from cvbatch.inference.settings import InferenceSettings
from cvbatch.output.store import open_store
from cvbatch.planning.plan import load_plan
from cvbatch.schema import ENCODED, IMAGE_FIELDS, MEASURES, PIXELS, TURN, WORKER
from cvbatch.stages.decode import DecodeOptions
from cvbatch.stages.decoded_rows import error_columns
from cvbatch.stages.unit_predictor import PredictorBatch, load_decoder, load_predictor, split_unit
from cvbatch.stages.watchdog import Watchdog
from cvbatch.stages.weight_files import WEIGHTS_IN_PLACE, WeightFiles
from cvbatch.storage.location import Location
from cvbatch.system.ray_compat import actor_was_restarted

if TYPE_CHECKING:
    from cvbatch.inference.predictor import Predictor
    from cvbatch.inference.torch.gpu_decode import GpuDecoder

_LOAD_RETRY_PAUSES: Final = (1.0, 5.0, 15.0, 30.0, 60.0)
CONCURRENT_UNITS: Final = {"cpu": 1, "cuda": 3}
"""Units that an actor processes at once. While a GPU computes one unit, the next is decoded, and the answers of another
are built. On two cores two units are not faster than one (ResNet-50: 12.0 images/s, one 12.5 to 13.7), except where
units are small; see `engine.resource_plan.allocate_resources`."""
_DROPPED_COLUMN_PREFIXES: Final = (PIXELS, ENCODED, TURN)
"""Prefixes of columns that the predict stage drops."""
_TOLD_BY_UNITS: Final = (ChangedModelError, NoMemoryForModelsError)
"""Errors of loading that each unit raises: Ray would start the process again, and tell the driver their text alone."""
_DEVICE_LOST, _NOT_LOADED = 70, 71
"""Exit codes of the process, for Ray's log files."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """Options of an actor; it reads the models from the plan, so that a restart needs no object of Ray's store."""

    output: Location
    decode: DecodeOptions
    device: str
    setting: InferenceSettings
    batch_size: int | None
    threads: int
    stalled_after: float
    """Seconds after which a unit counts as hung."""
    weight_files: WeightFiles = WEIGHTS_IN_PLACE
    aliases: tuple[str, ...] | None = None
    """Models of the plan that this actor runs; None for all."""

    def on_host(self) -> PredictOptions:
        """Return the options without decoding on the device, as that may be what kills processes."""
        return replace(self, decode=replace(self.decode, on_device=False))


@dataclass(frozen=True, slots=True)
class ActorProcess:
    """The process of an actor: whether Ray restarted it, and how to end it."""

    was_restarted: Callable[[], bool] = actor_was_restarted
    end: Callable[[int], NoReturn] = os._exit
    pauses: Sequence[float] = _LOAD_RETRY_PAUSES
    """Seconds between attempts to load the models again."""


class PredictActor:
    """All models of a job on one device; one call predicts one unit, and calls may overlap.

    Args:
        options: Models, settings and device.
        process: The process of this actor.
    """

    def __init__(self, options: PredictOptions, process: ActorProcess = ActorProcess()) -> None:
        self._options, self._process = options, process
        loaded = _load_with_retries(options, process)
        self._loading_error = loaded if isinstance(loaded, _TOLD_BY_UNITS) else None
        if not isinstance(loaded, _TOLD_BY_UNITS):
            self._predictor, self._decoder = loaded
        self._clock, self._watchdog = _BusyClock(), Watchdog(options.stalled_after)

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Predict one unit.

        Args:
            unit: Output of the decode stage.

        Returns:
            The same rows without pixels, with the columns of every model.

        Raises:
            ChangedModelError: If a file of a model was edited before this process was restarted.
            NoMemoryForModelsError: If the models do not fit into memory beside each other.
        """
        if self._loading_error is not None:
            raise self._loading_error
        try:
            with self._clock.busy(), self._watchdog.watch_unit():
                batches = split_unit(unit, self._options.decode, self._decoder)
                return pa.concat_tables([self._predict_batch(batch) for batch in batches])
        except DeviceLostError:
            self._process.end(_DEVICE_LOST)  # Ray restarts the process and gives it the same unit again

    def _predict_batch(self, batch: PredictorBatch) -> pa.Table:
        table = batch.table
        predictions = self._predictor.predict_views(batch.views, batch.sizes)
        output = table.select([name for name in table.column_names if not name.startswith(_DROPPED_COLUMN_PREFIXES)])
        output = _add_error_columns(output, predictions.errors)
        for name, column in predictions.columns.items():
            output = output.append_column(name, column)
        seconds = self._clock.take_busy_seconds() / max(1, table.num_rows)
        output = output.append_column(f"{MEASURES}predict", pa.array(np.full(table.num_rows, seconds)))
        return output.append_column(WORKER, pa.repeat(pa.scalar(self._worker_facts()), table.num_rows))

    def _worker_facts(self) -> str:
        facts: dict[str, Any] = {"host": platform.node(), "pid": os.getpid()}
        if reduced_sizes := self._predictor.reduced_batch_sizes:
            facts["batch_sizes"] = reduced_sizes
        return json.dumps(facts)


class _BusyClock:
    """Counts busy time: overlapping calls count once.

    Args:
        now: Returns seconds since an arbitrary moment.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._running_count = 0
        self._counted_until = self._counted = 0.0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Count the time inside the block as busy."""
        with self._lock:
            self._change_running(1)
        try:
            yield
        finally:
            with self._lock:
                self._change_running(-1)

    def take_busy_seconds(self) -> float:
        """Return the busy seconds since the last call."""
        with self._lock:
            self._change_running(0)
            busy_seconds, self._counted = self._counted, 0.0
        return busy_seconds

    def _change_running(self, change: int) -> None:
        now = self._now()
        if self._running_count:
            self._counted += now - self._counted_until
        self._counted_until, self._running_count = now, self._running_count + change


def _load_with_retries(
    options: PredictOptions, process: ActorProcess
) -> tuple[Predictor, GpuDecoder | None] | ChangedModelError | NoMemoryForModelsError:
    """Load the models; in a restarted process, retry failures for two minutes.

    If the constructor of an actor raises at its first start, the run ends with a clear message. If it raised at a
    restart, Ray would continue with one actor less, without a message.
    """
    if not process.was_restarted():
        try:
            return _load_models(options)
        except NoMemoryForModelsError as error:
            return error
    for pause in process.pauses:
        loaded = try_call(lambda: _load_models(options))  # a user's factory may raise anything
        if not isinstance(loaded, Exception) or isinstance(loaded, _TOLD_BY_UNITS):
            return loaded
        time.sleep(pause)
    process.end(_NOT_LOADED)


def _load_models(options: PredictOptions) -> tuple[Predictor, GpuDecoder | None]:
    plan = load_plan(open_store(options.output))
    assert plan is not None, "a run has a plan"
    planned = [model for model in plan.models if options.aliases is None or model.alias in options.aliases]
    models = options.weight_files.localize_plan_models(planned)
    predictor = load_predictor(models, options.device, options.setting, options.batch_size, options.threads)
    return predictor, load_decoder(options.decode, options.device)


def _add_error_columns(table: pa.Table, errors: Sequence[RowError | None]) -> pa.Table:
    """Mark rows whose prediction failed; earlier errors stay."""
    if not any(errors):
        return table
    failed = pa.array([error is not None for error in errors])
    types = {column.name: column.type for column in IMAGE_FIELDS}
    for name, values in error_columns(errors).items():
        position = table.column_names.index(name)
        merged = pc.if_else(failed, pa.array(values, types[name]), table[name])
        table = table.set_column(position, table.schema.field(name), merged)
    return table
