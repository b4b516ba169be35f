"""All trackers of a training: each is told about every epoch once, and none of them can stop the training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Final

from cvbatch.config.train_job import MLFLOW, TENSORBOARD
from cvbatch.output.store import Store
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.torch.event_files import EventFiles
from cvbatch.training.trackers.base import Tracker, numbers_of_history
from cvbatch.training.trackers.mlflow_runs import MlflowRun

_TRACKERS: Final[Mapping[str, Callable[[Store, TrainingPlan], Tracker]]] = {
    TENSORBOARD: EventFiles,
    MLFLOW: MlflowRun,
}


class Trackers:
    """The trackers that a job names.

    Args:
        names: Keys of the job.
        store: The output.
        plan: Of the training.

    Raises:
        UsageError: If one cannot be used; nothing is learned yet.
    """

    def __init__(self, names: Sequence[str], store: Store, plan: TrainingPlan) -> None:
        self._plan = plan
        self._trackers = {name: _TRACKERS[name](store, plan) for name in dict.fromkeys(names)}
        self._told = {name: tracker.known_epochs for name, tracker in self._trackers.items()}
        self.notes = list[str]()
        """Which trackers were given up, and why."""

    def tell_epochs(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Tell what the trackers do not know yet.

        Args:
            history: All epochs that have ended.
        """
        for name, tracker in list(self._trackers.items()):
            for numbers in islice(numbers_of_history(self._plan, history), self._told[name], None):
                if not self._try(name, tracker, partial(tracker.add_numbers, numbers)):
                    break
                self._told[name] += 1

    def close(self, files: Mapping[str, bytes]) -> None:
        """Say that the training is finished.

        Args:
            files: What describes the result, by name.
        """
        for name, tracker in list(self._trackers.items()):
            self._try(name, tracker, partial(tracker.close, files))

    def _try(self, name: str, tracker: Tracker, tell: Callable[[], None]) -> bool:
        try:
            tell()
        except tracker.errors as error:
            self.notes.append(f"log: {name} was given up: {(str(error).splitlines() or ['no reason'])[0]}")
            del self._trackers[name]
            return False
        return True
