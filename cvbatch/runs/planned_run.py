"""A run as its output stores it: its plan, its progress, and whether an attempt continues the same run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from cvbatch.config.job import Job
from cvbatch.config.job_file import build_job
from cvbatch.engine.base import Engine, StartingEngine
from cvbatch.errors import OutputError
from cvbatch.models.backends import backend_of
from cvbatch.models.own_modules import folder_of_module
from cvbatch.models.spec import ModelSpec
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.store import Store
from cvbatch.planning.extend import extend_plan_to_limit, needs_extension
from cvbatch.planning.find_moved import SourceMove
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
    """A move of the source that the job requests and the log does not contain yet."""
    planned_move: PlannedMove | None = None
    """The images at the new location, after `reopen_source` found them."""

    @staticmethod
    def from_output(output: Location) -> PlannedRun:
        """Load the run of an output.

        Raises:
            OutputError: If the output holds no run.
        """
        store, plan = open_run(output)
        return PlannedRun(store, plan, CommitLog(store, plan.rows))

    @staticmethod
    def find_run(store: Store, job: Job, moved_from: Sequence[str]) -> PlannedRun | None:
        """Load the run of an output and check that it is the run of the job; None if the output holds no run.

        Args:
            store: The output.
            job: The requested job.
            moved_from: Old locations of sources that have moved.

        Raises:
            OutputError: If it is a different run, or if `moved_from` is given and there is no run.
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
        """The job of the run, with the current locations of its sources."""
        return current_job(self.plan, self.log.state)

    def job_with_overrides(self, overrides: Sequence[str]) -> Job:
        """The job of the run with overrides; it spells out every option, so defaults are left out first."""
        return build_job(self.job.model_dump(mode="json", by_alias=True, exclude_defaults=True), overrides)

    def check_job(self, job: Job) -> None:
        """Check that a job is that of the run, by the job's options alone.

        Raises:
            OutputError: Names the differences.
        """
        uris = self.move.new_uris if self.move else current_uris(self.plan, self.log.state)
        check_same_job(self.store, identity_with_uris(self.plan, uris), job)

    def check_models(self, models: Sequence[ModelSpec], *, loaded: bool) -> None:
        """Check by content that models are those of the run; see `plan.check_same_models`."""
        check_same_models(self.store, self.plan, models, model_files_of_last_attempt(self.store), loaded=loaded)

    def prepare_engine(self, starting: StartingEngine, models: Sequence[ModelSpec], job: Job, *, rows: int) -> Engine:
        """Prepare an engine for this run; the plan in memory gets the models with their current locations.

        Args:
            starting: The engine.
            models: Probed models of the job.
            job: The requested job.
            rows: Number of images to compute.

        Raises:
            OutputError: If the models differ from those of the run.
            UsageError: If the job cannot run on this engine.
        """
        self.check_models(models, loaded=True)
        self.plan = replace(self.plan, models=tuple(models))
        # samples for the tuner must be read from the new location
        state = self.log.state if self.planned_move is None else self.planned_move.state_after_move()
        return starting.prepare_engine(models, self.plan, state, job, rows=rows)

    def needs_replanning(self, job: Job) -> bool:
        """Whether the job requests images that are not planned, or a move of the source."""
        return self.move is not None or needs_extension(self.log.state, self.plan, job.source.limit)

    def has_untouched_models(self, job: Job, pythonpath: str | None) -> bool:
        """Whether the models are those of the last attempt, without reading their files.

        They are if their section of the job is the same, and if none of their files on this machine has changed
        since the last attempt compared them. Missing files and files in a bucket are not checked.

        Args:
            job: The requested job.
            pythonpath: Folder that `python:` models are imported from.
        """
        if job.models != self.job.models or pythonpath != self.plan.pythonpath or self.log.state.holder is None:
            return False
        if any(backend_of(spec).has_sources and not spec.files for spec in self.plan.models):
            return False  # early versions did not record the files
        compared_at = self.log.state.holder["time"]
        return not any(_changed_since(path, compared_at) for path in self._model_files(job, pythonpath))

    def _model_files(self, job: Job, pythonpath: str | None) -> Iterator[Path]:
        """Possible paths of the model files on this machine; not all of them exist."""
        for model, spec in zip(job.models, self.plan.models, strict=True):
            for location in (model.checkpoint, model.categories, model.prompts):
                if isinstance(location, str) and (path := to_local_path(location)) is not None:
                    yield Path(path)
            if model.checkpoint is not None and (path := to_local_path(model.checkpoint)) is not None:
                yield from backend_of(spec).files_beside(Path(path))
            module_folder = folder_of_module(spec.name.partition(":")[0], pythonpath) if spec.files else None
            for name in spec.files:
                yield Path(pythonpath or os.curdir, os.path.expanduser(name))
                if module_folder is not None:
                    yield module_folder / name

    def reopen_source(self, job: Job, *, refresh: bool) -> ImageSource:
        """Open the source again; if it has moved, find its images at the new location.

        Args:
            job: Names the source.
            refresh: Whether the source will be listed again.

        Raises:
            SourceError: If the source cannot be the one that was planned.
        """
        extra_columns = self.plan.extra_columns(self.store)
        source = open_source(job.source, pa.schema(extra_columns))
        if self.move is not None:
            self.planned_move = PlannedMove(self.store, self.plan, self.log.state, job, source, self.move)
        if refresh:
            check_can_update(job, source, extra_columns)
        return source

    def refresh_plan(self, source: ImageSource, job: Job, *, refresh: bool) -> bool:
        """Record a move, and plan images that are within a raised limit, new or changed; the log must be open.

        Args:
            source: The reopened source.
            job: Has the limit.
            refresh: Whether to look for new, changed and removed images.

        Returns:
            Whether the source was listed.
        """
        log, plan, limit = self.log, self.plan, job.source.limit
        if self.planned_move is not None:
            self.planned_move.append_to_log(log)
        is_listed = refresh or needs_extension(log.state, plan, limit)
        extend_plan_to_limit(log, plan, job, source)
        if refresh:
            update_plan(log, plan, source, limit, job.source.fetch_options)
        return is_listed


def _changed_since(path: Path, timestamp: float) -> bool:
    """Whether a file exists that was written, moved or copied since; uses ctime, because users can set mtime."""
    try:
        return path.stat().st_ctime >= timestamp
    except (OSError, ValueError):  # the file is missing, or the path is not a valid file name
        return False
