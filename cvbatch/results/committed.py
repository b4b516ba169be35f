"""Which files of a run are committed, and reading them while the run goes on.

Readers use the latest manifest, or the commit log if the run is not finished. If a file disappears during reading, it
was probably replaced: the list of files is read again. If the list has not changed, the output is corrupt and
`CorruptionError` is raised.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.dataset as pads

from cvbatch.errors import CorruptionError, OutputError
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.arrow_dataset import open_dataset_files
from cvbatch.output.commit_log import CommitLog, newest_record_name, record_name
from cvbatch.output.log_records import DataFile
from cvbatch.output.manifest import latest_manifest
from cvbatch.output.object_store import ObjectStore
from cvbatch.output.row_ranges import RowRange
from cvbatch.output.store import Store
from cvbatch.planning.parts import Part
from cvbatch.planning.plan import PLAN_FILE, Plan, open_run
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.tasks import Task

T = TypeVar("T")
_ATTEMPTS: Final = 5

Output: TypeAlias = str | Location
"""Location of a run: a path, or a URI of a bucket."""
Storage: TypeAlias = Mapping[str, Any] | None
"""Options for an object store: `endpoint_url`, `region`, `path_style`, `anonymous`, `profile`."""


@dataclass(frozen=True, slots=True)
class CommittedFiles:
    """The committed files of a run at one moment."""

    files: list[DataFile]
    """Sorted by row id."""
    removed: list[RowRange]
    """Rows of images that were removed from the source."""
    moves: tuple[Part, ...] = ()
    """Plan parts of the moves of the source, oldest first."""


@dataclass(frozen=True)
class OpenedOutput:
    """A run that is open for reading."""

    store: Store
    plan: Plan

    @property
    def location(self) -> Location:
        """Where it is, with the options of its storage."""
        return self.store.place if isinstance(self.store, ObjectStore) else Location(self.store.root)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of the data files."""
        source = self.plan.job["source"]
        return rows_schema(
            self.plan.models,
            exif=source["exif"],
            warnings=source.get("damaged") == "keep",
            geo=source.get("geo", False),
            extra_columns=self.plan.extra_columns(self.store),
        )

    def committed_files(self) -> CommittedFiles:
        """The files that are committed now."""
        manifest = latest_manifest(self.store)
        if manifest is not None and newest_record_name(self.store) == record_name(manifest.final):
            self._check_same_plan(manifest.plan_file)
            return CommittedFiles(manifest.files, manifest.removed, manifest.moves)
        state = CommitLog(self.store, self.plan.rows).state
        self._check_same_plan(state.plan_file)
        return CommittedFiles(
            sorted(state.files.values(), key=lambda file: file.ranges), list(state.removed), tuple(state.move_parts)
        )

    def _check_same_plan(self, plan_file: str | None) -> None:
        """Check that the models are still those that this object knows.

        Raises:
            OutputError: If they have changed meanwhile.
        """
        if (plan_file or PLAN_FILE) != self.plan.file:
            raise OutputError(f"{self.store.root}: its models have changed while it was read: read it again")

    def open_files(self, files: Sequence[DataFile]) -> pads.Dataset:
        """Open some data files as a dataset."""
        return open_dataset_files(self.store, files, self.schema)

    def find_model(self, task: Task, alias: str | None = None) -> ModelSpec:
        """Find a model of the run.

        Args:
            task: What the model must do.
            alias: Column prefix of the model; None for the only model of this task, or the one with the default alias.

        Raises:
            OutputError: If there is no such model, or if several could be meant; the message has their aliases.
        """
        if alias is None and sum(model.task == task.name for model in self.plan.models) > 1:
            for model in self.plan.models:
                if (model.alias, model.task) == (task.name, task.name):
                    return model
        return self.find_model_of((task.name,), f"{task.name} model", alias)

    def find_model_of(self, tasks: Collection[str], wanted: str, alias: str | None = None) -> ModelSpec:
        """Find a model of the run that does one of several tasks.

        Args:
            tasks: Names of the tasks.
            wanted: What such a model is called in messages, such as `model with labels`.
            alias: Column prefix of the model; None for the only model of these tasks.

        Raises:
            OutputError: If there is no such model, or if several could be meant; the message has the aliases.
        """
        models = {model.alias: model for model in self.plan.models if model.task in tasks}
        if alias is None and len(models) == 1:
            return next(iter(models.values()))
        if alias in models:
            return models[alias]
        if alias is None and models:
            several = f"several {wanted.replace('model', 'models', 1)}"
            raise OutputError(f"{self.store.root} has {several}; name one of {', '.join(models)}")
        aliases = ", ".join(models) or ", ".join(f"{model.alias} ({model.task})" for model in self.plan.models)
        name = "" if alias is None else f" {alias!r}"
        raise OutputError(f"{self.store.root} has no {wanted}{name}; it has {aliases}")


def open_output(output: Output, storage: Storage = None) -> OpenedOutput:
    """Open a run for reading.

    Args:
        output: The output location.
        storage: Options for an object store.

    Raises:
        OutputError: If there is no run.
    """
    return OpenedOutput(*open_run(Location.from_path_or_uri(output, StorageOptions.from_mapping(storage or {}))))


def load_committed(opened: OpenedOutput, load: Callable[[CommittedFiles], T]) -> T:
    """Load the committed files; if one was replaced meanwhile, load the new list of files."""
    committed = opened.committed_files()
    for _ in range(_ATTEMPTS):
        try:
            return load(committed)
        except FileNotFoundError as error:
            committed = newer_files(opened, committed, error)
    raise CorruptionError(f"{opened.store.root}: its files change faster than they can be read; try again")


def newer_files(opened: OpenedOutput, committed: CommittedFiles, error: FileNotFoundError) -> CommittedFiles:
    """The files that are committed now, after one of those that were committed before was missing.

    Raises:
        CorruptionError: If the committed files are the same, so the missing one is lost.
    """
    newer = opened.committed_files()
    if newer == committed:
        raise CorruptionError(f"{opened.store.root}: a committed file is missing: {error}") from None
    return newer
