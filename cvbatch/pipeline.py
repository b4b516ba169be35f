"""The way of an image, from the job to the committed row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, Protocol

import pyarrow as pa

from cvbatch.config.job import Job
from cvbatch.config.job_file import job_with
from cvbatch.engine.ray_engine import Engine
from cvbatch.errors import OutputError
from cvbatch.models.resolve import resolve
from cvbatch.output.commit_log import Log
from cvbatch.output.lease import claim
from cvbatch.output.log_records import State
from cvbatch.output.manifest import check_reopening, finish, finish_tail
from cvbatch.output.store import open_store
from cvbatch.planning.extend import extend, wants_more
from cvbatch.planning.moved import Moving, find_move, identity_at, job_now, where_now
from cvbatch.planning.plan import check_job, check_models, load_plan, make_plan, open_run
from cvbatch.planning.update import check_source, update
from cvbatch.runs.attempt import Session
from cvbatch.runs.passes import compute
from cvbatch.runs.recompute import failed_rows, recompute
from cvbatch.runs.run_record import files_of_last_start
from cvbatch.sources import open_source
from cvbatch.storage.location import Place


class Watcher(Protocol):
    """Whoever wants to see a run go on."""

    def doing(self, what: str) -> None:
        """Something else is waited for from now on, in words."""

    def planned(self, state: State) -> None:
        """The plan stands; work begins."""

    def committed(self, state: State) -> None:
        """Rows were committed."""


def run(
    job: Job,
    watcher: Watcher,
    *,
    pythonpath: str | None = None,
    refresh: bool = False,
    wait: bool = False,
    takeover: bool = False,
    manifest_only: bool = False,
    moved_from: Sequence[str] = (),
) -> State:
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
    watcher.doing("getting the models")
    store, models = open_store(job.output.place), resolve(job.models, folder=pythonpath)
    plan = load_plan(store)
    moving, move, carried = None, None, None
    if plan is not None:
        log = Log(store, plan.rows)
        move = find_move(plan, log.state, job, moved_from)
        check_job(store, identity_at(plan, move.now if move else where_now(plan, log.state)), job)
        check_models(store, plan, models, files_of_last_start(store), loaded=False)
        carried = pa.schema(plan.carried(store))
    source = open_source(job.source, carried)
    if plan is not None:
        claim(store, log.read, wait=wait, takeover=takeover)
        if move is not None:
            moving = Moving(store, plan, log.state, job, source, move)
        if refresh:
            check_source(job, source, plan.carried(store))
        more = refresh or moving is not None or wants_more(log.state, plan, job.source.limit)
        if log.state.final and not more and finish_tail(log, manifest_only=manifest_only):
            return log.state
        check_reopening(store, replaces=refresh, manifest_only=manifest_only)
    elif moved_from:
        raise OutputError(f"--moved-from: {store.root} holds no run that could have moved; leave it out")
    with Engine(job.output.place, models, job.compute, pythonpath) as engine:
        engine.doing = watcher.doing
        watcher.doing("starting Ray")
        models = engine.probe(models, job.compute)
        if plan is None:
            store.check()
            watcher.doing("listing the source")
        plan = plan or make_plan(store, job, models, source, pythonpath=pythonpath)
        check_models(store, plan, models, files_of_last_start(store))
        plan = replace(plan, models=models)
        log = Log(store, plan.rows)
        state = log.state if moving is None else moving.ahead()  # what is tried out is read where it lies now
        watcher.doing("starting Ray")
        engine.prepare(models, plan, state, job, rows=log.state.planned)
        claim(store, log.read, wait=wait, takeover=takeover)
        with Session(log, plan, engine, job.compute, manifest_only=manifest_only) as session:
            if moving is not None:
                moving.record(log)
            lists = refresh or wants_more(log.state, plan, job.source.limit)
            extend(log, plan, job, source)
            if refresh:
                update(log, plan, source, job.source.limit, job.source.reach)
            if lists:
                session.listed(source.listing)
            watcher.planned(log.state)
            for written in compute(engine, log, plan, lambda: log.state.accepted.missing(log.state.planned)):
                session.took(written, log.commit(file for each in written for file in each.files))
                watcher.committed(log.state)
            recompute(session, log.state.stale, watcher.committed)
            session.check_time()
            finish(log, manifest_only=manifest_only)
    return log.state


def retry(
    output: Place | str,
    errors: Literal["transient", "all"],
    watcher: Watcher,
    *,
    pythonpath: str | None = None,
    overrides: Sequence[str] = (),
    takeover: bool = False,
    manifest_only: bool = False,
) -> State:
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
    place = Place.at(output)
    store, plan = open_run(place)
    log = Log(store, plan.rows)
    job = _as_given(job_now(plan, log.state), overrides)
    pythonpath = pythonpath or plan.pythonpath
    models = resolve(job.models, folder=pythonpath)
    check_job(store, identity_at(plan, where_now(plan, log.state)), job)
    check_models(store, plan, models, files_of_last_start(store), loaded=False)
    claim(store, log.read, takeover=takeover)
    if log.state.left:
        raise OutputError(f"{output} is not finished: expected a finished run; cvbatch run goes on with it")
    failed = failed_rows(store, log.state, transient_only=errors == "transient")
    if log.state.final and not len(failed) and finish_tail(log, manifest_only=manifest_only):
        return log.state
    check_reopening(store, replaces=True, manifest_only=manifest_only)
    with Engine(place, models, job.compute, pythonpath) as engine:
        engine.doing = watcher.doing
        watcher.doing("starting Ray")
        models = engine.probe(models, job.compute)
        check_models(store, plan, models)
        engine.prepare(models, plan, log.state, job, rows=len(failed))
        # that many of these rows are errors is no news
        compute_all = job.compute.model_copy(update={"max_error_share": 1.0})
        with Session(log, plan, engine, compute_all, manifest_only=manifest_only) as session:
            watcher.planned(log.state)
            recompute(session, failed, watcher.committed)
            session.check_time()
            finish(log, manifest_only=manifest_only)
    return log.state


def _as_given(job: Job, overrides: Sequence[str]) -> Job:
    """A job of the plan, in which every option is spelled out, with those alone that say anything, and with others."""
    return job_with(job.model_dump(mode="json", by_alias=True, exclude_defaults=True), overrides)
