"""MLflow: one run for a training, on the server that `MLFLOW_TRACKING_URI` names."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cvbatch.errors import UsageError
from cvbatch.output.store import TRAINING_FOLDER, Store
from cvbatch.system.extras import import_extra
from cvbatch.system.formats import RecordFormat
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.trackers.base import TrackedNumber

_URI: Final = "MLFLOW_TRACKING_URI"
_EXPERIMENT: Final = "MLFLOW_EXPERIMENT_NAME"
_RUN_FILE: Final = f"{TRAINING_FOLDER}/mlflow.json"
_RUN: Final = RecordFormat("run of MLflow", dict[str, Any])
_MOST_LETTERS: Final = 500
"""Of a parameter."""
_MOST_NUMBERS: Final = 500
"""In one request."""


class MlflowRun:
    """Writes a run of MLflow; later attempts go on with it.

    Args:
        store: The output; it remembers the run.
        plan: Of the training.

    Raises:
        UsageError: If MLflow is not installed, or no server is named.
    """

    def __init__(self, store: Store, plan: TrainingPlan) -> None:
        import_extra("mlflow", "mlflow", "log: mlflow")
        if not os.environ.get(_URI):
            raise UsageError(f"log: mlflow needs {_URI}: expected a server such as http://mlflow.example.org:5000")
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        self.errors: tuple[type[Exception], ...] = (MlflowException, OSError)
        self._store, self._client = store, MlflowClient()
        try:
            self._run, self.known_epochs = self._find_run() or self._create_run(plan)
        except self.errors as error:
            raise UsageError(f"log: mlflow: {os.environ[_URI]}: {str(error).splitlines()[0]}") from None

    def _find_run(self) -> tuple[str, int] | None:
        try:
            known = _RUN.decode_record(self._store.read_object(_RUN_FILE), _RUN_FILE)
        except FileNotFoundError:
            return None
        self._client.get_run(known["run"])
        return known["run"], known["epochs"]

    def _create_run(self, plan: TrainingPlan) -> tuple[str, int]:
        from mlflow.entities import Param

        name = os.environ.get(_EXPERIMENT, "cvbatch")
        experiment = self._client.get_experiment_by_name(name)
        number = self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        title = self._store.root.rstrip("/").rpartition("/")[2]
        run = str(self._client.create_run(number, run_name=title).info.run_id)
        self._client.log_batch(run, params=[Param(key, value[:_MOST_LETTERS]) for key, value in _parameters(plan)])
        self._remember(run, 0)
        return run, 0

    def _remember(self, run: str, epochs: int) -> None:
        self._store.put_object(_RUN_FILE, _RUN.encode_record({"run": run, "epochs": epochs}))

    def add_numbers(self, numbers: Sequence[TrackedNumber]) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        metrics = [Metric(number.name, number.value, int(1000 * number.time), number.step) for number in numbers]
        for low in range(0, len(metrics), _MOST_NUMBERS):
            self._client.log_batch(self._run, metrics=metrics[low : low + _MOST_NUMBERS])
        self.known_epochs += 1
        self._remember(self._run, self.known_epochs)

    def close(self, files: Mapping[str, bytes]) -> None:
        """See `Tracker`."""
        with tempfile.TemporaryDirectory(prefix="cvbatch-mlflow-") as folder:
            for name, content in files.items():
                Path(folder, name).write_bytes(content)
                self._client.log_artifact(self._run, str(Path(folder, name)))
        self._client.set_terminated(self._run)


def _parameters(plan: TrainingPlan) -> Iterator[tuple[str, str]]:
    """What the training is: its identity in dotted names, and its data."""
    for section, value in plan.identity.items():
        parts = value.items() if isinstance(value, Mapping) else [(None, value)]
        for key, part in parts:
            name = section if key is None else f"{section}.{key}"
            if part is not None:
                yield name, part if isinstance(part, str) else json.dumps(part)
    yield "data.sha256", plan.data_sha256
    yield "data.learned", str(plan.trained)
    yield "data.validation", str(plan.validated)
