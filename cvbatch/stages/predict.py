"""The second stage: pixels → columns of predictions, in an actor that holds all models of the job."""

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

from cvbatch.errors import ChangedModelError, DeviceLostError, RowError, try_call
from cvbatch.inference.settings import InferenceSettings
from cvbatch.output.store import open_store
from cvbatch.planning.plan import load_plan
from cvbatch.schema import ENCODED, IMAGE_FIELDS, MEASURES, PIXELS, TURN, WORKER
from cvbatch.stages.decode import DecodeOptions, error_columns
from cvbatch.stages.unit_split import PredictorBatch, load_decoder, load_predictor, split_unit
from cvbatch.stages.watchdog import Watchdog
from cvbatch.stages.weight_files import WEIGHTS_IN_PLACE, WeightFiles
from cvbatch.storage.location import Location
from cvbatch.system.ray_compat import actor_was_restarted

if TYPE_CHECKING:
    from cvbatch.inference.predictor import Predictor
    from cvbatch.inference.torch.gpu_decode import GpuDecoder

_LOAD_RETRY_PAUSES: Final = (1.0, 5.0, 15.0, 30.0, 60.0)
CONCURRENT_UNITS: Final = {"cpu": 1, "cuda": 3}
"""Beside a GPU that computes, the next unit is decoded, and the answers of another made. On two cores two at once were
no faster (ResNet-50: 12.0 images/s, one 12.5 to 13.7), except where units are small; see `size_pools`."""
_DROPPED_COLUMN_PREFIXES: Final = (PIXELS, ENCODED, TURN)
"""Beginnings of the names of columns that end here."""
_DEVICE_LOST, _NOT_LOADED = 70, 71
"""Exit codes, for Ray's log files."""


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What an actor needs; the models themselves it reads from the plan, or a restart would depend on an object."""

    output: Location
    decode: DecodeOptions
    device: str
    setting: InferenceSettings
    batch_size: int | None
    threads: int
    stalled_after: float
    """Seconds after which a unit counts as hung."""
    files: WeightFiles = WEIGHTS_IN_PLACE

    def on_host(self) -> PredictOptions:
        """The same without decoding on the device, which may be what takes processes along."""
        return replace(self, decode=replace(self.decode, on_device=False))


@dataclass(frozen=True, slots=True)
class ActorProcess:
    """What the stage needs to know of the process that it runs in, and how it ends it."""

    was_restarted: Callable[[], bool] = actor_was_restarted
    end: Callable[[int], NoReturn] = os._exit
    pauses: Sequence[float] = _LOAD_RETRY_PAUSES
    """Seconds between attempts to load the models again."""


class PredictActor:
    """All models of a job on one device; one call is one unit, and calls may overlap.

    Args:
        options: What to load, and how.
        process: The one that this runs in.
    """

    def __init__(self, options: PredictOptions, process: ActorProcess = ActorProcess()) -> None:
        self._options, self._process = options, process
        loaded = _load_with_retries(options, process)
        self._changed = loaded if isinstance(loaded, ChangedModelError) else None
        if not isinstance(loaded, ChangedModelError):
            self._predictor, self._decoder = loaded
        self._clock, self._watchdog = _BusyClock(), Watchdog(options.stalled_after)

    def __call__(self, unit: pa.Table) -> pa.Table:
        """Predict one unit.

        Args:
            unit: Output of the decode stage.

        Returns:
            The same rows without pixels, with the columns of every model.

        Raises:
            ChangedModelError: A file of a model was edited before this process was started anew.
        """
        if self._changed is not None:
            raise self._changed
        try:
            with self._clock.busy(), self._watchdog.watch_unit():
                some = split_unit(unit, self._options.decode, self._decoder)
                return pa.concat_tables([self._predict_batch(piece) for piece in some])
        except DeviceLostError:
            self._process.end(_DEVICE_LOST)  # Ray starts the process anew, and gives it the same unit again

    def _predict_batch(self, piece: PredictorBatch) -> pa.Table:
        table = piece.table
        predictions = self._predictor.predict_views(piece.views, piece.sizes)
        kept = table.select([name for name in table.column_names if not name.startswith(_DROPPED_COLUMN_PREFIXES)])
        kept = _add_error_columns(kept, predictions.errors)
        for name, column in predictions.columns.items():
            kept = kept.append_column(name, column)
        seconds = self._clock.take_busy_seconds() / max(1, table.num_rows)
        kept = kept.append_column(f"{MEASURES}predict", pa.array(np.full(table.num_rows, seconds)))
        return kept.append_column(WORKER, pa.repeat(pa.scalar(self._worker_facts()), table.num_rows))

    def _worker_facts(self) -> str:
        about: dict[str, Any] = {"host": platform.node(), "pid": os.getpid()}
        if reduced := self._predictor.reduced_batch_sizes:
            about["batch_sizes"] = reduced
        return json.dumps(about)


class _BusyClock:
    """Counts the time in which anything was done once, however many did something in it.

    Args:
        now: Seconds since any moment.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._running = 0
        self._since = self._counted = 0.0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Something is done."""
        with self._lock:
            self._change_running(1)
        try:
            yield
        finally:
            with self._lock:
                self._change_running(-1)

    def take_busy_seconds(self) -> float:
        """Seconds that nobody has taken yet."""
        with self._lock:
            self._change_running(0)
            taken, self._counted = self._counted, 0.0
        return taken

    def _change_running(self, change: int) -> None:
        now = self._now()
        if self._running:
            self._counted += now - self._since
        self._since, self._running = now, self._running + change


def _load_with_retries(
    options: PredictOptions, process: ActorProcess
) -> tuple[Predictor, GpuDecoder | None] | ChangedModelError:
    """Load the models; where that fails in a process that was started anew, try again for a while.

    An actor whose constructor raises at its first start ends the run with a clear message. If it raised at a later
    one, Ray would leave the pool one actor smaller, and say nothing.
    """
    if not process.was_restarted():
        return _load_models(options)
    for pause in process.pauses:
        loaded = try_call(lambda: _load_models(options))  # a factory of somebody else's may raise anything
        if not isinstance(loaded, Exception) or isinstance(loaded, ChangedModelError):
            return loaded  # of the latter the units that come here say it
        time.sleep(pause)
    process.end(_NOT_LOADED)


def _load_models(options: PredictOptions) -> tuple[Predictor, GpuDecoder | None]:
    plan = load_plan(open_store(options.output))
    assert plan is not None, "a run has a plan"
    models = options.files.localize_plan_models(plan.models)
    predictor = load_predictor(models, options.device, options.setting, options.batch_size, options.threads)
    return predictor, load_decoder(options.decode, options.device)


def _add_error_columns(table: pa.Table, errors: Sequence[RowError | None]) -> pa.Table:
    """Mark rows whose prediction failed; earlier errors stay."""
    if not any(errors):
        return table
    failed = pa.array([error is not None for error in errors])
    types = {column.name: column.type for column in IMAGE_FIELDS}
    for name, values in error_columns(errors).items():
        at = table.column_names.index(name)
        merged = pc.if_else(failed, pa.array(values, types[name]), table[name])
        table = table.set_column(at, table.schema.field(name), merged)
    return table
