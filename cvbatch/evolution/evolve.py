"""Evolving a run: the columns of new and changed models are computed, all others are copied, and the log switches once.

The new columns come from a run of their own in a hidden folder of the output: the same rows, planned, committed and
resumed as any other. Then all data files are written anew, and one record of the log replaces the old ones and the
plan. Before that record readers see the old columns, after it the new ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from cvbatch.config.job import Job
from cvbatch.engine.base import StartEngine
from cvbatch.engine.starting_ray import start_ray
from cvbatch.errors import OutputError
from cvbatch.evolution.changes import ModelChanges, find_model_changes
from cvbatch.evolution.merging import ComputedRows, Merge
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec, describe_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext
from cvbatch.output.lease import Heartbeat, acquire_lease
from cvbatch.output.log_records import RunState
from cvbatch.output.manifest import check_can_reopen, finish_run, withdraw_success_mark
from cvbatch.output.store import Store, open_store
from cvbatch.pipeline import RunObserver, run
from cvbatch.planning.evolved_plan import save_evolved_plan
from cvbatch.planning.moved import current_uris, identity_with_uris
from cvbatch.planning.plan import Plan, check_same_job, load_plan
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.planned_source import PlannedSource
from cvbatch.runs.new_columns import complete_evolution, discard_computed_rows, place_of_computed_rows
from cvbatch.runs.run_record import load_record, model_files_of_last_attempt
from cvbatch.storage.location import Location


def evolve_run(
    job: Job,
    watcher: RunObserver,
    *,
    pythonpath: str | None = None,
    wait: bool = False,
    takeover: bool = False,
    start_engine: StartEngine = start_ray,
) -> RunState:
    """Give a finished run the models of a job; where they are its models already, continue the run.

    Args:
        job: The job of the run with other models; all else is the same.
        watcher: Receives the progress.
        pythonpath: As for `run`, like `wait`, `takeover` and `start_engine`.
        wait: Wait while another attempt holds the run.
        takeover: Take the run over without checking for another attempt.
        start_engine: Starts the engine that computes the new columns.

    Returns:
        State of the commit log at the end.

    Raises:
        UsageError: If the request is wrong, or the run is not finished; nothing was started.
        RunError: If the new columns are not complete; the same call resumes, and the old columns stay until then.
    """
    run_models = partial(run, pythonpath=pythonpath, wait=wait, takeover=takeover, start_engine=start_engine)
    store = open_store(job.output.location)
    plan = load_plan(store)
    if plan is None:
        return run_models(job, watcher)
    log = CommitLog(store, plan.rows)
    check_only_models_differ(store, plan, log.state, job)
    models = resolve_models(job.models, folder=pythonpath, report=watcher.on_phase)
    changes = find_model_changes(store, plan, models, model_files_of_last_attempt(store))
    if changes.is_empty:
        state = run_models(job, watcher)
        discard_computed_rows(job.output.location)
        return state
    acquire_lease(store, log.refresh, wait=wait, takeover=takeover)
    complete_evolution(job.output.location, log, plan)
    if log.state.remaining_rows:
        raise OutputError(
            f"{store.root} is not finished: expected a finished run; continue it with its earlier job, then evolve it"
        )
    check_can_reopen(store, replaces=True)
    watcher.on_phase(changes.describe())
    planned_rows, computed = _rows_of(log.state), None
    place = place_of_computed_rows(job.output.location, plan, log.state, job)
    if changes.computed:
        source = PlannedSource(OpenedOutput(store, plan), log.state.planned)
        run_models(_job_of_computed(job, changes, place), watcher, source=source)
        computed = ComputedRows.from_output(place)
        acquire_lease(store, log.refresh, wait=wait, takeover=takeover)  # again: computing takes long
    watcher.on_phase("copying the other columns")
    computed_models = iter(computed.models if computed is not None else ())
    new_models = [copied or next(computed_models) for copied in changes.copied_models()]
    with _opened(log, planned_rows):
        evolved = _switch_models(log, plan, job, new_models, changes, computed, pythonpath)
        finish_run(log)
        complete_evolution(job.output.location, log, evolved)
    return log.state


def check_only_models_differ(store: Store, plan: Plan, state: RunState, job: Job) -> None:
    """Check that a job is that of the run, apart from its models.

    Raises:
        OutputError: Names the differences.
    """
    identity = identity_with_uris(plan, current_uris(plan, state))
    check_same_job(store, {**identity, "models": job.identity()["models"]}, job)


def _copied_columns(changes: ModelChanges, new_models: Sequence[ModelSpec]) -> dict[str, str]:
    """Old column by new column."""
    return {
        new.name: old.name
        for model, (_, planned) in zip(new_models, changes.models, strict=True)
        if planned is not None
        for new, old in zip(model.column_fields(), planned.column_fields(), strict=True)
    }


def _job_of_computed(job: Job, changes: ModelChanges, place: Location) -> Job:
    """The job of the run that computes the new columns."""
    pairs = zip(job.models, changes.models, strict=True)
    configs = tuple(config for config, (_, planned) in pairs if planned is None)
    return job.model_copy(
        update={
            "models": configs,
            "source": job.source.model_copy(update={"limit": None, "exif": False, "geo": False}),
            "output": job.output.model_copy(update={"uri": place.uri}),
        }
    )


def _switch_models(
    log: CommitLog,
    plan: Plan,
    job: Job,
    models: Sequence[ModelSpec],
    changes: ModelChanges,
    computed: ComputedRows | None,
    pythonpath: str | None,
) -> Plan:
    """Write all data files anew, and replace the old ones and the plan at once; the log must be open.

    Returns:
        The new plan.
    """
    store, schema = log.store, OpenedOutput(log.store, replace(plan, models=tuple(models))).schema
    described = describe_schema(schema, models, str(load_record(store).get("precision")))
    context = WriteContext(job.output.location, log.epoch, described)
    copied_columns = _copied_columns(changes, models)
    model_columns = {column.name for model in models for column in model.column_fields()}
    merge = Merge(
        context, copied_columns, frozenset(model_columns - copied_columns.keys()), computed, log.state.removed
    )
    files = list(merge.write_files(log.state))
    evolved = save_evolved_plan(store, plan, job, models, pythonpath, only_adds=changes.only_adds)
    log.evolve_files(files, evolved.file)
    return evolved


@contextlib.contextmanager
def _opened(log: CommitLog, planned_rows: object) -> Iterator[None]:
    """Hold the run.

    Raises:
        OutputError: If another attempt has changed its rows since the new columns were begun.
    """
    log.open_epoch()
    withdraw_success_mark(log.store, manifest_only=False)
    with Heartbeat(log.store, log.state):
        if _rows_of(log.state) != planned_rows:
            raise OutputError(
                f"{log.store.root} has been updated while its new columns were computed: run the same command again"
            )
        yield


def _rows_of(state: RunState) -> tuple[int, int, int]:
    """What changes if another attempt plans or changes rows; all of them are computed."""
    return state.planned, len(state.changed), state.remaining_rows
