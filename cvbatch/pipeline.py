"""The way of an image, from the job to the committed row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

from cvbatch.config.job import Job
from cvbatch.config.job_file import build_job
from cvbatch.deprecated import adapt_observer, renamed_names
from cvbatch.engine.starting_ray import start_ray
from cvbatch.errors import OutputError
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from cvbatch.output.lease import acquire_lease
from cvbatch.output.log_records import RunState
from cvbatch.output.manifest import check_can_reopen, complete_finish
from cvbatch.output.store import Store, open_store
from cvbatch.runs.attempt import RunAttempt
from cvbatch.runs.passes import compute_missing_rows
from cvbatch.runs.planned_run import PlannedRun
from cvbatch.runs.recompute import failed_rows, recompute_rows
from cvbatch.sources import open_source
from cvbatch.sources.entries import ImageSource
from cvbatch.storage.location import Location

if not TYPE_CHECKING:
    __getattr__ = renamed_names("cvbatch.pipeline")


class RunObserver(Protocol):
    """Whoever wants to see a run go on."""

    def on_phase(self, what: str) -> None:
        """Something else is waited for from now on, in words."""

    def on_planned(self, state: RunState) -> None:
        """The plan stands; work begins."""

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
) -> RunState:
    """Label every image of a source, exactly once.

    Args:
        job: What to do.
        watcher: Told of the progress.
        pythonpath: Folder that the workers can import from, besides what is installed.
        refresh: List the source again; label what is new or changed, and mark what is gone.
        wait: Wait for another start that works on the run, instead of refusing.
        takeover: Take the run over without looking for another start.
        manifest_only: Leave files that may not be deleted to an operator; see `finish_tail`.
        moved_from: Where sources were that lie elsewhere now, which the job names.

    Returns:
        What the commit log says at the end.

    Raises:
        UsageError: If the request is wrong; nothing was started.
        RunError: If the run did not finish; what is committed stays.
    """
    watcher = adapt_observer(watcher)
    watcher.on_phase("getting the models")
    store = open_store(job.output.location)
    acquire = partial(acquire_lease, store, wait=wait, takeover=takeover)
    planned = _find_run(store, job, moved_from, acquire)
    wants_more = planned is None or refresh or planned.wants_more(job)
    if planned and not wants_more and _is_finished(planned, job, pythonpath, manifest_only=manifest_only):
        return planned.log.state
    models = resolve_models(job.models, folder=pythonpath, report=watcher.on_phase)
    source = _open_source(planned, job, models, refresh=refresh, manifest_only=manifest_only)
    with start_ray(job.output.location, models, job.compute, pythonpath, watcher.on_phase) as starting:
        models = starting.probe_models(models, job.compute)
        planned = planned or _make_plan(store, job, models, source, pythonpath, watcher)
        engine = planned.prepare_engine(starting, models, job, rows=planned.log.state.planned)
        acquire(planned.log.refresh)  # Ray has taken its time
        with RunAttempt(planned.log, planned.plan, engine, job.compute, manifest_only=manifest_only) as session:
            if planned.list_again(source, job, refresh=refresh):
                session.record_listing(source.listing)
            watcher.on_planned(planned.log.state)
            _compute_missing(session, watcher)
            recompute_rows(session, planned.log.state.stale, watcher.on_committed)
            session.finish_run()
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
) -> RunState:
    """Label failed images again; what is good stays as it is.

    Args:
        output: Of a run.
        errors: Only those that may go better another time, or all.
        watcher: Told of the progress.
        pythonpath: Folder that the workers can import from; by default that of the run.
        overrides: `dotted.path=YAML value`, for what lies elsewhere now: the way to it is no part of a run.
        takeover: Take the run over without looking for another start.
        manifest_only: Leave files that may not be deleted to an operator; see `finish_tail`.

    Returns:
        What the commit log says at the end.

    Raises:
        UsageError: If there is no run, or somebody works on it.
        RunError: If the retry did not finish; what is replaced stays replaced.
    """
    watcher = adapt_observer(watcher)
    place = Location.from_path_or_uri(output)
    planned = PlannedRun.from_output(place)
    store, log, pythonpath = planned.store, planned.log, pythonpath or planned.plan.pythonpath
    acquire = partial(acquire_lease, store, takeover=takeover)
    job = _job_with_overrides(planned.job, overrides)
    planned.check_job(job)
    acquire(log.refresh)
    if log.state.remaining_rows:
        raise OutputError(f"{output} is not finished: expected a finished run; cvbatch run goes on with it")
    failed = failed_rows(store, log.state, transient_only=errors == "transient")
    if not len(failed) and _is_finished(planned, job, pythonpath, manifest_only=manifest_only):
        return log.state
    models = resolve_models(job.models, folder=pythonpath, report=watcher.on_phase)
    planned.check_models(models, loaded=False)
    check_can_reopen(store, replaces=True, manifest_only=manifest_only)
    with start_ray(place, models, job.compute, pythonpath, watcher.on_phase) as starting:
        models = starting.probe_models(models, job.compute)
        engine = planned.prepare_engine(starting, models, job, rows=len(failed))
        acquire(log.refresh)  # Ray has taken its time
        # that many of these rows are errors is no news
        compute_all = job.compute.model_copy(update={"max_error_share": 1.0})
        with RunAttempt(log, planned.plan, engine, compute_all, manifest_only=manifest_only) as session:
            watcher.on_planned(log.state)
            recompute_rows(session, failed, watcher.on_committed)
            session.finish_run()
    return log.state


def _find_run(
    store: Store, job: Job, moved_from: Sequence[str], acquire: Callable[[Callable[[], RunState]], None]
) -> PlannedRun | None:
    """The run of the output, once nobody else works on it."""
    planned = PlannedRun.find_run(store, job, moved_from)
    if planned is not None:
        acquire(planned.log.refresh)
    return planned


def _is_finished(planned: PlannedRun, job: Job, pythonpath: str | None, *, manifest_only: bool) -> bool:
    """Whether a run of which no more is asked is finished, to its last file.

    Its models are looked at only where the job says something else of them, or their files were touched.

    Raises:
        OutputError: If they are others than those of the run.
    """
    if not planned.log.state.is_final:
        return False
    if not planned.has_untouched_models(job, pythonpath):
        planned.check_models(resolve_models(job.models, folder=pythonpath), loaded=False)
    return complete_finish(planned.log, manifest_only=manifest_only)


def _open_source(
    planned: PlannedRun | None, job: Job, models: Sequence[ModelSpec], *, refresh: bool, manifest_only: bool
) -> ImageSource:
    """Open the source; a run that is there must be able to go on with it, and with the models."""
    if planned is None:
        return open_source(job.source)
    planned.check_models(models, loaded=False)
    source = planned.reopen_source(job, refresh=refresh)
    check_can_reopen(planned.store, replaces=refresh, manifest_only=manifest_only)
    return source


def _make_plan(
    store: Store,
    job: Job,
    models: Sequence[ModelSpec],
    source: ImageSource,
    pythonpath: str | None,
    watcher: RunObserver,
) -> PlannedRun:
    store.check_writable()
    watcher.on_phase("listing the source")
    return PlannedRun.create_run(store, job, models, source, pythonpath)


def _compute_missing(session: RunAttempt, watcher: RunObserver) -> None:
    """Compute and commit the rows that nobody has committed yet."""
    log = session.log
    for written in compute_missing_rows(
        session.engine, log, session.plan, lambda: log.state.accepted.missing_ranges(log.state.planned)
    ):
        session.record_commit(written, log.commit_files(file for each in written for file in each.files))
        watcher.on_committed(log.state)


def _job_with_overrides(job: Job, overrides: Sequence[str]) -> Job:
    """A job of the plan, in which every option is spelled out, with those alone that say anything, and with others."""
    return build_job(job.model_dump(mode="json", by_alias=True, exclude_defaults=True), overrides)
