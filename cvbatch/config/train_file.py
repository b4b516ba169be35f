"""Reading a job file of a training."""

from __future__ import annotations

from collections.abc import Sequence

from cvbatch.config.job_file import build_section, read_job_data
from cvbatch.config.train_job import TrainJob, expand_names
from cvbatch.storage.options import StorageOptions


def load_train_job(path: str, *, overrides: Sequence[str] = (), storage: StorageOptions | None = None) -> TrainJob:
    """Read a job file of `cvbatch train`, apply overrides, and validate the job.

    Relative paths in the file are relative to its folder, those in overrides to the current folder.

    Args:
        path: A YAML file, local or in a bucket.
        overrides: `dotted.path=YAML value`, applied in order.
        storage: Storage options for a file in a bucket.

    Raises:
        JobError: If the job is invalid; one line names all problems.
        StorageError: If the file is in a bucket and cannot be read.
    """
    data = read_job_data(path, storage, expand_names)
    given = {key: value for key, value in data.items() if value is not None}
    return build_section(TrainJob, given, overrides, path, expand_names)
