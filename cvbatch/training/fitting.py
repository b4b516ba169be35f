"""The way of a training, in order: from the job to a folder with the model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from cvbatch.config.train_job import TrainJob
from cvbatch.engine.training_workers import Watch, WorkerRequest, work_on_ray
from cvbatch.errors import CvbatchError
from cvbatch.output.lease import Heartbeat, acquire_lease
from cvbatch.output.store import Store, open_store
from cvbatch.system.environment import check_environment
from cvbatch.training.judging import Judgement, judge_result
from cvbatch.training.log import TrainingLog, TrainingState
from cvbatch.training.plan import TrainingPlan, check_same_training, load_training_plan, make_training_plan
from cvbatch.training.progress import TrainingProgress, read_progress, request_stop
from cvbatch.training.result import write_description, write_result
from cvbatch.training.trackers.telling import Trackers
from cvbatch.training.worker import LearningWork, WorkerOutcome


class TrainingObserver(Protocol):
    """Receives the progress of a training."""

    def on_phase(self, description: str) -> None:
        """A new phase starts; `description` says what is waited for."""

    def on_progress(self, progress: TrainingProgress) -> None:
        """Steps were learned."""


class RunWorkers(Protocol):
    """Lets workers work; see `engine.training_workers.work_on_ray`."""

    def __call__(
        self,
        work: Callable[[Any], WorkerOutcome],
        request: WorkerRequest,
        watch: Watch,
        ask_to_stop: Callable[[], None],
        report: Callable[[str], None],
        /,
    ) -> WorkerOutcome:
        """Return what the first worker returns."""


@dataclass(frozen=True, kw_only=True)
class TrainingReport:
    """What a training has come to."""

    output: str
    """The folder that `cvbatch run --model` takes."""
    plan: TrainingPlan
    state: TrainingState
    judgement: Judgement = field(default_factory=Judgement)
    """How good it is on the validation images."""

    @property
    def best(self) -> Mapping[str, Any]:
        """The best epoch."""
        return self.state.best or {}

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        best = {key: value for key, value in self.best.items() if key != "weights"}
        return {
            "output": self.output,
            "model": self.plan.start.name,
            "task": self.plan.start.task,
            "categories": [name for name in self.plan.categories if name is not None],
            "images": {"learned": self.plan.trained, "validation": self.plan.validated},
            "best": best,
            "validation": {
                name: {
                    "images": metrics.images,
                    "values": dict(metrics.values),
                    "intervals": {key: list(pair) for key, pair in metrics.intervals.items()},
                }
                for name, metrics in self.judgement.metrics.items()
            },
            "epochs": [{key: value for key, value in row.items() if key != "points"} for row in self.state.history],
            "notes": [*self.plan.notes, *self.judgement.notes],
        }


class _Silent:
    """Shows nothing."""

    def on_phase(self, description: str) -> None:
        """See `TrainingObserver`."""

    def on_progress(self, progress: TrainingProgress) -> None:
        """See `TrainingObserver`."""


def train_model(
    job: TrainJob,
    observer: TrainingObserver | None = None,
    *,
    wait: bool = False,
    takeover: bool = False,
    judged: bool = True,
    run_workers: RunWorkers = work_on_ray,
) -> TrainingReport:
    """Train a model on images and their truth; the same call goes on with a training that was interrupted.

    Args:
        job: Model, images, truth and output; see `load_train_job`.
        observer: Receives the progress.
        wait: Wait while another process works on this output, instead of raising.
        takeover: Take the training over without checking for another process.
        judged: Label the validation images with the result, for intervals on its card and pictures in its report.
        run_workers: Lets workers work; on Ray by default.

    Returns:
        The best epoch, and the history. `report.output` is a model of `cvbatch run`.

    Raises:
        UsageError: If the job, the images or the truth cannot be used; nothing was learned.
        RunError: If the training did not finish; the last checkpoint stays.
    """
    check_environment()
    watcher = observer or _Silent()
    store = open_store(job.output.location)
    plan = load_training_plan(store)
    if plan is not None:
        check_same_training(store, plan, job)
    else:
        plan = make_training_plan(store, job, watcher.on_phase)
    log = TrainingLog(store)
    trackers = Trackers(() if log.state.is_final else job.log, store, plan)
    if not log.state.is_final:
        acquire_lease(store, log.refresh, wait=wait, takeover=takeover)
        _learn(_Attempt(store, log, job, watcher, trackers), run_workers)
    write_result(store, plan, log.state)
    judgement = Judgement()
    if judged:
        judgement = judge_result(store, plan, log.state.best or {}, job, watcher.on_phase)
    files = write_description(store, plan, log.state, job, judgement)
    trackers.close(files)
    judgement = replace(judgement, notes=(*judgement.notes, *trackers.notes))
    return TrainingReport(output=str(store.root), plan=plan, state=log.state, judgement=judgement)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What an attempt works with."""

    store: Store
    log: TrainingLog
    job: TrainJob
    watcher: TrainingObserver
    trackers: Trackers


def _learn(own: _Attempt, run_workers: RunWorkers) -> None:
    """Open an attempt, and let the workers learn to the end."""
    store, log, compute = own.store, own.log, own.job.compute
    attempt = log.open_attempt()
    request = WorkerRequest(
        workers=compute.workers,
        device=compute.device,
        restarts=compute.restarts,
        start_timeout=compute.ray_start_timeout,
    )
    with Heartbeat(store, log.state):
        outcome = run_workers(
            LearningWork(own.job, attempt),
            request,
            partial(_show_progress, own, attempt),
            partial(request_stop, store, attempt),
            own.watcher.on_phase,
        )
    log.refresh()
    own.trackers.tell_epochs(log.state.history)
    if outcome.error is not None:
        raise outcome.error
    if not outcome.finished:
        raise KeyboardInterrupt  # the workers have found a request to stop
    log.append_record(attempt, "final")


def _show_progress(own: _Attempt, attempt: int) -> None:
    with contextlib.suppress(CvbatchError, OSError):
        progress = read_progress(own.store)
        if progress is not None and progress.attempt == attempt:
            own.watcher.on_progress(progress)
        if own.job.log:
            own.trackers.tell_epochs(own.log.refresh().history)
