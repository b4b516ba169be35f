"""The way of an image, from the job to the committed row."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final, Protocol

from cvbatch.compute.engine import Engine
from cvbatch.config import Job
from cvbatch.models.registry import resolve
from cvbatch.planning.extend import extend, wants_more
from cvbatch.planning.plan import Plan, check_job, check_models, load_plan, make_plan
from cvbatch.planning.units import Unit, cut
from cvbatch.record import Record
from cvbatch.sources import open_source
from cvbatch.writing.holder import refuse_if_held
from cvbatch.writing.log import Log
from cvbatch.writing.manifest import SUCCESS, finish, finish_tail
from cvbatch.writing.records import State
from cvbatch.writing.store import open_store

_FIRST_WAVE: Final = 1_000
_WAVE: Final = 50_000
"""Units per wave. Ray plans a wave as a whole, so the first is small and something comes out early."""
_PASSES: Final = (1, 8, 4096)
"""What a pass leaves undone runs again in units this many times smaller, in the end image by image."""
_FIRST_UNIT: Final = 4
"""The first unit of a pass is so many times smaller: it shows early that all goes well."""


class Watcher(Protocol):
    """Whoever wants to see a run go on."""

    def planned(self, state: State) -> None:
        """The plan stands; work begins."""

    def committed(self, state: State) -> None:
        """Rows were committed."""


def run(job: Job, watcher: Watcher, *, pythonpath: str | None = None) -> State:
    """Label every image of a source, exactly once.

    Args:
        job: What to do.
        watcher: Told of the progress.
        pythonpath: Folder that the workers can import from, besides what is installed.

    Returns:
        What the commit log says at the end.

    Raises:
        UsageError: If the request is wrong; nothing was started.
        RunError: If the run did not finish; what is committed stays.
    """
    store, models, source = open_store(job.output.uri), resolve(job.models), open_source(job.source)
    plan = load_plan(store)
    if plan is not None:
        check_job(store, plan, job)
        log = Log(store, plan.rows)
        if log.state.final and not wants_more(log.state, plan, job.source.limit) and finish_tail(log):
            return log.state
        refuse_if_held(log.state, store.root)
    record = Record()
    with Engine(store.root, pythonpath) as engine:
        models = engine.probe(models)
        plan = plan or make_plan(store, job, models, source)
        check_models(store, plan, models)
        log = Log(store, plan.rows)
        unit_rows = engine.prepare(models, plan.carried(store), job.source, job.compute, log.state.planned)
        refuse_if_held(log.state, store.root)
        log.open()
        store.delete(SUCCESS)
        try:
            extend(log, plan, job, source)
            watcher.planned(log.state)
            for units in _waves(log, plan, unit_rows):
                for written in engine.label(units, log.epoch):
                    accepted = log.commit(written.files)
                    record.add(written, sum(file.rows for file in accepted))
                    watcher.committed(log.state)
            if lost := list(_missing(log, plan, 1)):
                log.commit(engine.give_up(lost, log.epoch).files)
            finish(log)
        finally:
            record.save(store, plan, log.state, engine.cluster, engine.pools)
    return log.state


def _waves(log: Log, plan: Plan, unit_rows: int) -> Iterator[list[Unit]]:
    """Units to work on: everything that is missing, then what that left undone, in smaller pieces."""
    size = _FIRST_WAVE
    for smaller in _PASSES:
        units = _missing(log, plan, max(1, unit_rows // smaller))
        while wave := list(itertools.islice(units, size)):
            yield wave
            size = _WAVE


def _missing(log: Log, plan: Plan, unit_rows: int) -> Iterator[Unit]:
    state, parts = log.state, [*plan.parts, *log.state.parts]
    missing = state.accepted.missing(state.planned)
    return cut(log.store, parts, missing, unit_rows, first_rows=max(1, unit_rows // _FIRST_UNIT))
