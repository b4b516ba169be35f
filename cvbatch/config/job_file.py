"""Reading a job file, and laying options over it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from cvbatch.config import job_paths
from cvbatch.config.error_messages import explain_validation_errors
from cvbatch.config.job import Job
from cvbatch.config.overrides import apply_override, merge_nested
from cvbatch.errors import JobError, TooLargeError
from cvbatch.storage.location import Location, is_object_uri
from cvbatch.storage.options import StorageOptions

_MAX_JOB_BYTES = 1 << 20


def load_job(
    path: str | None = None,
    *,
    overrides: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    storage: StorageOptions | None = None,
) -> Job:
    """Read a job file, lay options over it and check the whole.

    Paths that stand in the file begin at its folder, those of the options at the current one.

    Args:
        path: A YAML file, here or in a bucket, or None for a job made of options only.
        overrides: `dotted.path=YAML value`, applied last and in order.
        defaults: Nested values of the flags, laid over the file.
        storage: How to reach the file in its bucket.

    Raises:
        JobError: With everything that is wrong, in one message of one line.
        StorageError: If the file lies in a bucket and cannot be had.
    """
    data: dict[str, Any] = {} if path is None else _read_job_data(path, storage)
    data = merge_nested({key: value for key, value in data.items() if value is not None}, defaults or {})
    return build_job(data, overrides, path)


def build_job(data: dict[str, Any], overrides: Sequence[str], path: str | None = None) -> Job:
    """Check a job, with options laid over it; see `load_job`."""
    for override in overrides:
        apply_override(data, override)
    job_paths.resolve_job_paths(
        data, None if path is None or is_object_uri(path) else os.path.dirname(os.path.abspath(path))
    )
    try:
        return Job.model_validate(data)
    except ValidationError as error:
        where = f"{path}: " if path else ""
        raise JobError(where + "; ".join(explain_validation_errors(error.errors(), Job))) from None


def _read_job_data(path: str, storage: StorageOptions | None) -> dict[str, Any]:
    try:
        data = yaml.safe_load(_read_job_text(path, storage))
    except IsADirectoryError:
        raise JobError(
            f"expected a job file, but {path} is a directory; images are given with --source {path}"
        ) from None
    except OSError as error:
        raise JobError(f"cannot read the job file {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise JobError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise JobError(f"{path}: expected a mapping with source, models and output, got {type(data).__name__}")
    job_paths.mark_job_file_paths(data)
    return data


def _read_job_text(path: str, storage: StorageOptions | None) -> str:
    if not is_object_uri(path):
        return Path(path).read_text(encoding="utf-8")
    from cvbatch.storage.buckets import open_bucket  # a local file needs no clients of object stores

    place = Location.from_uri(path, storage)
    try:
        return open_bucket(place).get_object(place.key, _MAX_JOB_BYTES).data.decode()
    except TooLargeError as error:
        raise JobError(f"{place} is no job file: {error}") from None
