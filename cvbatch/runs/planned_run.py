"""A run as its output holds it, for the next attempt: what was planned, how far it is, and whether it is the same."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from cvbatch.config.job import Job
from cvbatch.engine.base import Engine, StartingEngine
from cvbatch.errors import OutputError
from cvbatch.models.backends import backend_of
from cvbatch.models.own_modules import folder_of_module
from cvbatch.models.spec import ModelSpec
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.store import Store
from cvbatch.planning.extend import extend_plan_to_limit, needs_extension
from cvbatch.planning.finding import SourceMove
from cvbatch.planning.moved import PlannedMove, current_job, current_uris, find_requested_move, identity_with_uris
from cvbatch.planning.plan import Plan, check_same_job, check_same_models, load_plan, make_plan, open_run
from cvbatch.planning.update import check_can_update, update_plan
from cvbatch.runs.run_record import model_files_of_last_attempt
from cvbatch.sources import open_source
from cvbatch.sources.entries import ImageSource
from cvbatch.storage.local_paths import to_local_path
from cvbatch.storage.location import Location


@dataclass(slots=True)
class PlannedRun:
    """A run that has a plan."""

    store: Store
    plan: Plan
    log: CommitLog
    move: SourceMove | None = None
    """What the job says has moved, as long as the run does not know it."""
    moving: PlannedMove | None = None
    """Its images at the new place, once they were looked for."""

    @staticmethod
    def from_output(output: Location) -> PlannedRun:
        """The run of an output.

        Raises:
            OutputError: If there is none.
        """
        store, plan = open_run(output)
        return PlannedRun(store, plan, CommitLog(store, plan.rows))

    @staticmethod
    def find_run(store: Store, job: Job, moved_from: Sequence[str]) -> PlannedRun | None:
        """The run of an output that may hold one, if it is that of the job.

        Args:
            store: The output.
            job: What is asked for.
            moved_from: Where its sources were that lie elsewhere now.

        Raises:
            OutputError: If it is another run, or there is none that could have moved.
        """
        plan = load_plan(store)
        if plan is None:
            if moved_from:
                raise OutputError(f"--moved-from: {store.root} holds no run that could have moved; leave it out")
            return None
        log = CommitLog(store, plan.rows)
        run = PlannedRun(store, plan, log, find_requested_move(plan, log.state, job, moved_from))
        run.check_job(job)
        return run

    @staticmethod
    def create_run(
        store: Store, job: Job, models: Sequence[ModelSpec], source: ImageSource, pythonpath: str | None
    ) -> PlannedRun:
        """List the source and create the plan; see `make_plan`."""
        plan = make_plan(store, job, models, source, pythonpath=pythonpath)
        return PlannedRun(store, plan, CommitLog(store, plan.rows))

    @property
    def job(self) -> Job:
        """What was asked for, at the places where its sources lie by now."""
        return current_job(self.plan, self.log.state)

    def check_job(self, job: Job) -> None:
        """Refuse another job than that of the run, as far as it shows in the job.

        Raises:
            OutputError: Naming the differences.
        """
        places = self.move.new_uris if self.move else current_uris(self.plan, self.log.state)
        check_same_job(self.store, identity_with_uris(self.plan, places), job)

    def check_models(self, models: Sequence[ModelSpec], *, loaded: bool) -> None:
        """Refuse other models than those of the run, by what their files hold; see `plan.check_same_models`."""
        check_same_models(self.store, self.plan, models, model_files_of_last_attempt(self.store), loaded=loaded)

    def prepare_engine(self, starting: StartingEngine, models: Sequence[ModelSpec], job: Job, *, rows: int) -> Engine:
        """Prepare an engine for this run; from here on its plan has the models as they are now, and where they lie.

        Args:
            starting: The engine.
            models: Complete.
            job: What was asked for.
            rows: Images to go.

        Raises:
            OutputError: If the models are others than those of the run.
            UsageError: If the job cannot run on this engine.
        """
        self.check_models(models, loaded=True)
        self.plan = replace(self.plan, models=tuple(models))
        # what is tried out is read where it lies now
        state = self.log.state if self.moving is None else self.moving.state_after_move()
        return starting.prepare_engine(models, self.plan, state, job, rows=rows)

    def wants_more(self, job: Job) -> bool:
        """Whether the job asks for images that are not planned, or has moved them."""
        return self.move is not None or needs_extension(self.log.state, self.plan, job.source.limit)

    def has_untouched_models(self, job: Job, pythonpath: str | None) -> bool:
        """Whether models are those of the last attempt, as far as that is seen without reading a byte of them.

        They are if the job says the same of them, and if no file on this machine that they are made of was changed
        since the last attempt compared them. What is not here any more, or lies in a bucket, is not looked for.

        Args:
            job: What is asked for.
            pythonpath: Of the job's own models.
        """
        if job.models != self.job.models or pythonpath != self.plan.pythonpath or self.log.state.holder is None:
            return False
        if any(backend_of(spec).has_sources and not spec.files for spec in self.plan.models):
            return False  # an early version did not look
        compared_at = self.log.state.holder["time"]
        return not any(_changed_since(path, compared_at) for path in self._model_files(job, pythonpath))

    def _model_files(self, job: Job, pythonpath: str | None) -> Iterator[Path]:
        """Where the files of the models are, or would be, on this machine."""
        for model, spec in zip(job.models, self.plan.models, strict=True):
            for given in (model.checkpoint, model.categories):
                if isinstance(given, str) and (path := to_local_path(given)) is not None:
                    yield Path(path)
            sources = folder_of_module(spec.name.partition(":")[0], pythonpath) if spec.files else None
            for name in spec.files:
                yield Path(pythonpath or os.curdir, os.path.expanduser(name))
                if sources is not None:
                    yield sources / name

    def reopen_source(self, job: Job, *, refresh: bool) -> ImageSource:
        """Open the source again, and find its images at their new place where it has moved.

        Args:
            job: Names the source.
            refresh: Whether it will be listed again.

        Raises:
            SourceError: If it cannot be what was planned.
        """
        carried = self.plan.extra_columns(self.store)
        source = open_source(job.source, pa.schema(carried))
        if self.move is not None:
            self.moving = PlannedMove(self.store, self.plan, self.log.state, job, source, self.move)
        if refresh:
            check_can_update(job, source, carried)
        return source

    def list_again(self, source: ImageSource, job: Job, *, refresh: bool) -> bool:
        """Record what has moved, plan what the job lets in, and what is new or changed; the log must be open.

        Args:
            source: Opened again.
            job: With its limit.
            refresh: Whether to look for what is new, changed or gone.

        Returns:
            Whether the source was listed.
        """
        log, plan, limit = self.log, self.plan, job.source.limit
        if self.moving is not None:
            self.moving.append_to_log(log)
        lists = refresh or needs_extension(log.state, plan, limit)
        extend_plan_to_limit(log, plan, job, source)
        if refresh:
            update_plan(log, plan, source, limit, job.source.fetch_options)
        return lists


def _changed_since(path: Path, moment: float) -> bool:
    """Whether a file is there that was written, moved or copied there since; its own time of change can be set."""
    try:
        return path.stat().st_ctime >= moment
    except (OSError, ValueError):  # it is gone, or that is no name of a file
        return False
