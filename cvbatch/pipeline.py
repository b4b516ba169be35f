"""The stages of a run, in order: from the job to committed predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from cvbatch.config.job import Job
from cvbatch.deprecated import adapt_observer, renamed_names
from cvbatch.engine.base import StartEngine
from cvbatch.engine.starting_ray import start_ray
from cvbatch.errors import OutputError
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.output.lease import acquire_lease
from cvbatch.output.log_records import RunState
from cvbatch.output.manifest import check_can_reopen, complete_finish
from cvbatch.output.row_ranges import RowRange, RowRanges
from cvbatch.output.store import Store, open_store
from cvbatch.runs.attempt import RunAttempt
from cvbatch.runs.new_columns import complete_evolution
from cvbatch.runs.passes import compute_missing_rows
from cvbatch.runs.planned_run import PlannedRun
from cvbatch.runs.recompute import failed_rows, recompute_rows
from cvbatch.sources import open_source
from cvbatch.sources.entries import ImageSource
from cvbatch.storage.location import Location
from cvbatch.system.environment import check_environment

if not TYPE_CHECKING:
    __getattr__ = renamed_names("cvbatch.pipeline")


class RunObserver(Protocol):
    """Receives the progress of a run."""

    def on_phase(self, description: str) -> None:
        """A new phase starts; `description` says what the run waits for."""

    def on_planned(self, state: RunState) -> None:
        """The plan is complete; computing starts."""

    def on_committed(self, state: RunState) -> None:
        """Rows were committed."""


def run(
    job: Job,
    watcher: RunObserver,
    *,
    pythonpath: str | None = None,
    refresh: bool = False,
    wait: bool = False,
    takeover: bool = False,
    manifest_only: bool = False,
    moved_from: Sequence[str] = (),
    source: ImageSource | None = None,
    start_engine: StartEngine = start_ray,
) -> RunState:
    """Label every image of a source exactly once.

    Args:
        job: Source, models and output.
        watcher: Receives the progress.
        pythonpath: Folder that the workers can import from, in addition to installed packages.
        refresh: List the source again, label new and changed images, and mark images that were removed.
        wait: Wait while another attempt holds the run, instead of raising.
        takeover: Take the run over without checking for another attempt.
        manifest_only: Leave files that this process may not delete to an operator; see `manifest.complete_finish`.
        moved_from: Old locations of sources that have moved; the job names the new ones.
        source: Lists the images in place of the job's source.
        start_engine: Starts the engine that computes the rows; Ray by default.

    Returns:
        State of the commit log at the end.

    Raises:
        UsageError: If the request is wrong; nothing was started.
        RunError: If the run did not finish; committed rows stay committed.
    """
    check_environment()
    observer: RunObserver = adapt_observer(watcher)
    observer.on_phase("getting the models")
    store = open_store(job.output.location)
    acquire = partial(acquire_lease, store, wait=wait, takeover=takeover)
    planned = _find_run(store, job, moved_from, acquire)
    plan_may_change = planned is None or refresh or planned.needs_replanning(job)
    if planned and not plan_may_change and _is_finished(planned, job, pythonpath, manifest_only=manifest_only):
        return planned.log.state
    models = resolve_models(job.models, folder=pythonpath, report=observer.on_phase)
    source = _open_source(planned, job, models, source, refresh=refresh, manifest_only=manifest_only)
    with start_engine(job.output.location, models, job.compute, pythonpath, observer.on_phase) as starting_engine:
        models = starting_engine.probe_models(models, job.compute)
        planned = planned or _plan_new_run(store, job, models, source, pythonpath, observer)
        engine = planned.prepare_engine(starting_engine, models, job, rows=planned.log.state.planned)
        acquire(planned.log.refresh)  # again: another attempt may have started while Ray did
        with RunAttempt(planned.log, planned.plan, engine, job.compute, manifest_only=manifest_only) as attempt:
            if planned.refresh_plan(source, job, refresh=refresh):
                attempt.record_listing(source.listing)
            _work_to_the_end(attempt, observer)
    return planned.log.state


def run_without_models(
    job: Job,
    source: ImageSource,
    watcher: RunObserver,
    *,
    wait: bool = False,
    takeover: bool = False,
    retry_errors: Literal["none", "transient", "all"] = "none",
    start_engine: StartEngine,
) -> RunState:
    """Work on every image of a source exactly once, with an engine that needs no model.

    Args:
        job: Source, identity and output; its models are not resolved.
        source: Lists the images, and has all columns of the rows as extra columns.
        watcher: Receives the progress.
        wait: Wait while another attempt holds the run, instead of raising.
        takeover: Take the run over without checking for another attempt.
        retry_errors: Rows in error to work on again, once no row is missing.
        start_engine: Starts the engine.

    Returns:
        State of the commit log at the end.

    Raises:
        UsageError: If the request is wrong; nothing was started.
        RunError: If the run did not finish; committed rows stay committed.
    """
    check_environment()
    observer: RunObserver = adapt_observer(watcher)
    store = open_store(job.output.location)
    acquire = partial(acquire_lease, store, wait=wait, takeover=takeover)
    planned = _find_run(store, job, (), acquire)
    failed = RowRanges()
    if planned is not None:
        state = planned.log.state
        if retry_errors != "none" and not state.remaining_rows:
            failed = failed_rows(store, state, transient_only=retry_errors == "transient")
        if state.is_final and not len(failed):
            complete_finish(planned.log)
            return state
        check_can_reopen(store, replaces=bool(len(failed)))
    with start_engine(job.output.location, (), job.compute, None, observer.on_phase) as starting_engine:
        planned = planned or _plan_new_run(store, job, (), source, None, observer)
        engine = planned.prepare_engine(starting_engine, (), job, rows=planned.log.state.planned)
        acquire(planned.log.refresh)  # again: another attempt may have started while Ray did
        with RunAttempt(planned.log, planned.plan, engine, job.compute) as attempt:
            _work_to_the_end(attempt, observer, failed)
    return planned.log.state


def retry(
    output: Location | str,
    errors: Literal["transient", "all"],
    watcher: RunObserver,
    *,
    pythonpath: str | None = None,
    overrides: Sequence[str] = (),
    takeover: bool = False,
    manifest_only: bool = False,
    start_engine: StartEngine = start_ray,
) -> RunState:
    """Label failed images again; rows without an error stay unchanged.

    Args:
        output: Location of a run.
        errors: `transient` for errors that another attempt may avoid, or `all`.
        watcher: Receives the progress.
        pythonpath: Folder that the workers can import from; by default that of the run.
        overrides: `dotted.path=YAML value` for options beside the run's identity, such as the place of a weights file.
        takeover: Take the run over without checking for another attempt.
        manifest_only: Leave files that this process may not delete to an operator; see `manifest.complete_finish`.
        start_engine: Starts the engine that computes the rows; Ray by default.

    Returns:
        State of the commit log at the end.

    Raises:
        UsageError: If there is no run of models, or another attempt holds it.
        RunError: If the retry did not finish; replaced rows stay replaced.
    """
    check_environment()
    observer: RunObserver = adapt_observer(watcher)
    location = Location.from_path_or_uri(output)
    planned = PlannedRun.from_output(location)
    if not planned.plan.models:
        raise OutputError(f"{output} is the audit of an edit: expected a run; give the edit itself again, with --retry")
    store, log, pythonpath = planned.store, planned.log, pythonpath or planned.plan.pythonpath
    acquire = partial(acquire_lease, store, takeover=takeover)
    job = planned.job_with_overrides(overrides)
    planned.check_job(job)
    acquire(log.refresh)
    complete_evolution(location, log, planned.plan)
    if log.state.remaining_rows:
        raise OutputError(f"{output} is not finished: expected a finished run; continue it with cvbatch run")
    failed = failed_rows(store, log.state, transient_only=errors == "transient")
    if not len(failed) and _is_finished(planned, job, pythonpath, manifest_only=manifest_only):
        return log.state
    models = resolve_models(job.models, folder=pythonpath, report=observer.on_phase)
    planned.check_models(models, loaded=False)
    check_can_reopen(store, replaces=True, manifest_only=manifest_only)
    with start_engine(location, models, job.compute, pythonpath, observer.on_phase) as starting_engine:
        models = starting_engine.probe_models(models, job.compute)
        engine = planned.prepare_engine(starting_engine, models, job, rows=len(failed))
        acquire(log.refresh)  # again: another attempt may have started while Ray did
        # all these rows failed before, so many errors are no reason to stop
        without_error_limit = job.compute.model_copy(update={"max_error_share": 1.0})
        with RunAttempt(log, planned.plan, engine, without_error_limit, manifest_only=manifest_only) as attempt:
            _work_to_the_end(attempt, observer, failed)
    return log.state


def _find_run(
    store: Store, job: Job, moved_from: Sequence[str], acquire: Callable[[Callable[[], RunState]], None]
) -> PlannedRun | None:
    """Find the run of the output and acquire its lease; None if there is no run yet."""
    planned = PlannedRun.find_run(store, job, moved_from)
    if planned is not None:
        acquire(planned.log.refresh)
        complete_evolution(job.output.location, planned.log, planned.plan)
    return planned


def _is_finished(planned: PlannedRun, job: Job, pythonpath: str | None, *, manifest_only: bool) -> bool:
    """Whether the run is finished, with its manifest and `_SUCCESS`; models are compared only if they may have changed.

    Raises:
        OutputError: If the models differ from those of the run.
    """
    if not planned.log.state.is_final:
        return False
    if not planned.has_untouched_models(job, pythonpath):
        planned.check_models(resolve_models(job.models, folder=pythonpath), loaded=False)
    return complete_finish(planned.log, manifest_only=manifest_only)


def _open_source(
    planned: PlannedRun | None,
    job: Job,
    models: Sequence[ModelSpec],
    source: ImageSource | None,
    *,
    refresh: bool,
    manifest_only: bool,
) -> ImageSource:
    """Open the source; check that an existing run can continue with it and with the models."""
    if planned is None:
        return source or open_source(job.source)
    planned.check_models(models, loaded=False)
    source = source or planned.reopen_source(job, refresh=refresh)
    check_can_reopen(planned.store, replaces=refresh, manifest_only=manifest_only)
    return source


def _plan_new_run(
    store: Store,
    job: Job,
    models: Sequence[ModelSpec],
    source: ImageSource,
    pythonpath: str | None,
    observer: RunObserver,
) -> PlannedRun:
    """List the source and create the plan."""
    store.check_writable()
    observer.on_phase("listing the source")
    return PlannedRun.create_run(store, job, models, source, pythonpath)


def _work_to_the_end(attempt: RunAttempt, observer: RunObserver, failed: RowRanges | None = None) -> None:
    """Compute what is missing, then some rows again, and finish.

    Args:
        attempt: Holds the run.
        observer: Receives the progress.
        failed: Rows to compute again; None for those whose image has changed.
    """
    observer.on_planned(attempt.log.state)
    _compute_missing_rows(attempt, observer)
    recompute_rows(attempt, attempt.log.state.stale if failed is None else failed, observer.on_committed)
    attempt.finish_run()


def _compute_missing_rows(attempt: RunAttempt, observer: RunObserver) -> None:
    """Compute and commit all rows that are not committed yet."""
    log = attempt.log

    def uncommitted_ranges() -> list[RowRange]:
        return log.state.accepted.missing_ranges(log.state.planned)

    for results in compute_missing_rows(attempt.engine, log, attempt.plan, uncommitted_ranges):
        accepted = log.commit_files(file for result in results for file in result.files)
        attempt.record_commit(results, accepted)
        observer.on_committed(log.state)
