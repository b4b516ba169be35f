"""The validation images labelled by the model that was trained: a small run below the training.

It is a run like any other, so whatever answers questions about a run answers them about a training: `evaluate` gives
intervals, `report` draws the mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from cvbatch.config.job import Job, ModelConfig
from cvbatch.config.model_files import TRAINED
from cvbatch.inference.loading import probe_model
from cvbatch.inference.settings import REFERENCE
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.manifest import finish_run
from cvbatch.output.object_store import ObjectStore
from cvbatch.output.store import TRAINING_FOLDER, Store, open_store
from cvbatch.planning.plan import Plan, load_plan, make_plan
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.planned_images import PlannedImages
from cvbatch.sources.entries import CHUNK_ROWS, ENTRY_FIELDS, ListingReport
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.stages.predict import ActorProcess, PredictActor, PredictOptions
from cvbatch.storage.location import Location
from cvbatch.system.control_group import usable_cores
from cvbatch.training.plan import IS_VALIDATION, TrainingPlan, read_planned_images

MOST_IMAGES: Final = 5000
"""Of more validation images the first so many are labelled."""
_UNIT_ROWS: Final = 64
_HASH_DIGITS: Final = 16
_FOREVER: Final = 1e9
"""Seconds; nobody waits for a unit of this run in another process."""

Report = Callable[[str], None]


class _ValidationImages:
    """An `ImageSource` that lists the validation images of a training."""

    positional = False

    def __init__(self, images: pa.Table) -> None:
        self._images = images.select([column.name for column in ENTRY_FIELDS]).cast(pa.schema(ENTRY_FIELDS))
        self.extra_columns = pa.schema([])
        self.listing = ListingReport()

    def iter_chunks(self) -> Iterator[pa.Table]:
        """See `ImageSource`."""
        for low in range(0, self._images.num_rows, CHUNK_ROWS.current_value):
            yield self._images.slice(low, CHUNK_ROWS.current_value).combine_chunks()


def place_of_store(store: Store) -> Location:
    """Where a store is, with the options of its storage."""
    return store.place if isinstance(store, ObjectStore) else Location(store.root)


def label_validation(store: Store, plan: TrainingPlan, best: Mapping[str, Any], report: Report) -> OpenedOutput:
    """Label the validation images with the result of a training; a second call returns what the first has done.

    Args:
        store: The output of the training; the result is written.
        plan: Of the training.
        best: The best epoch; see `TrainingState.best`.
        report: Receives phrases about the progress.

    Raises:
        UsageError: If the model cannot be loaded.
    """
    training = place_of_store(store)
    folder = f"{TRAINING_FOLDER}/validation-{best['sha256'][:_HASH_DIGITS]}"
    place = Location(f"{training.uri.rstrip('/')}/{folder}", training.options)
    own = open_store(place)
    planned = load_plan(own)
    if planned is None:
        own.check_writable()
        images = read_planned_images(store, plan)
        chosen = images.filter(images[IS_VALIDATION]).slice(0, MOST_IMAGES)
        planned = make_plan(own, _run_job(training, place, plan), [trained_spec(training)], _ValidationImages(chosen))
    log = CommitLog(own, planned.rows)
    if not log.state.is_final:
        _label_rows(own, place, planned, log, report)
    return OpenedOutput(own, planned)


def trained_spec(training: Location) -> ModelSpec:
    """The model that a training has written.

    Args:
        training: Its output.

    Raises:
        UsageError: If it cannot be loaded.
    """
    config = ModelConfig.model_validate({"model": TRAINED, "checkpoint": training.uri, **_options_of(training)})
    (spec,) = resolve_models((config,))
    return probe_model(spec)


def _run_job(training: Location, place: Location, plan: TrainingPlan) -> Job:
    options = _options_of(training)
    model = {"model": TRAINED, "checkpoint": training.uri, **options}
    output = {"uri": place.uri, **options}
    return Job.model_validate({"source": plan.job["source"], "models": [model], "output": output})


def _options_of(place: Location) -> dict[str, Any]:
    return {name: value for name, value in asdict(place.options).items() if value}


def _label_rows(own: Store, place: Location, planned: Plan, log: CommitLog, report: Report) -> None:
    log.open_epoch()
    source = Job.model_validate(planned.job).source
    options = DecodeOptions.of_source(source, (model.view for model in planned.models))
    decode = replace(options, threads=usable_cores())
    actor = PredictActor(
        PredictOptions(
            output=place,
            decode=decode,
            device="cpu",
            setting=REFERENCE,
            batch_size=None,
            threads=usable_cores(),
            stalled_after=_FOREVER,
        ),
        ActorProcess(was_restarted=lambda: False),
    )
    schema = rows_schema(planned.models, warnings=source.keeps_damaged)
    context, blocks, done = WriteContext(place, log.epoch, schema), list[pa.Table](), 0
    opened = OpenedOutput(own, planned)
    for rows in PlannedImages(opened).iter_rows(np.arange(planned.rows), batch_rows=_UNIT_ROWS):
        blocks.append(actor(fetch_and_decode(rows, decode)))
        done += rows.num_rows
        report(f"labelling the validation images: {done:,} of {planned.rows:,}")
    log.commit_files(write_data_files(context, blocks).files)
    finish_run(log)
