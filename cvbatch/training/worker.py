"""What a worker of a training does: learn, and return errors that would come again instead of raising them."""

from __future__ import annotations

from dataclasses import dataclass

from cvbatch.config.train_job import TrainJob
from cvbatch.engine.training_workers import WorkerPlace
from cvbatch.errors import CvbatchError, UnavailableError


@dataclass(frozen=True, slots=True)
class WorkerOutcome:
    """How the work of a worker ended."""

    finished: bool
    """False if it was asked to stop, or failed."""
    error: CvbatchError | None = None
    """A reason that stays the same if the work is tried again."""


@dataclass(frozen=True, slots=True)
class LearningWork:
    """The work of each worker; it can be pickled."""

    job: TrainJob
    attempt: int

    def __call__(self, place: WorkerPlace) -> WorkerOutcome:
        """Learn."""
        from cvbatch.training.torch.worker import learn  # only workers need torch

        try:
            return WorkerOutcome(learn(self.job, self.attempt, place))
        except UnavailableError:
            raise  # another try may succeed
        except CvbatchError as error:
            return WorkerOutcome(False, error)
