"""Reading a job file and applying overrides."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from cvbatch.config import job_paths
from cvbatch.config.compute import ConfigSection
from cvbatch.config.error_messages import explain_validation_errors
from cvbatch.config.job import Job
from cvbatch.config.overrides import apply_override, merge_nested
from cvbatch.errors import JobError, TooLargeError
from cvbatch.storage.location import Location, is_object_uri
from cvbatch.storage.options import StorageOptions

_MAX_JOB_BYTES = 1 << 20
_Section = TypeVar("_Section", bound=ConfigSection)


def load_job(
    path: str | None = None,
    *,
    overrides: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
    storage: StorageOptions | None = None,
) -> Job:
    """Read a job file, apply flags and overrides, and validate the job.

    Relative paths in the file are relative to its folder, those in flags and overrides to the current folder.

    Args:
        path: A YAML file, local or in a bucket; None for a job from flags and overrides only.
        overrides: `dotted.path=YAML value`, applied last and in order.
        defaults: Nested values of the flags, which replace those of the file.
        storage: Storage options for a file in a bucket.

    Raises:
        JobError: If the job is invalid; one line names all problems.
        StorageError: If the file is in a bucket and cannot be read.
    """
    data: dict[str, Any] = {} if path is None else read_job_data(path, storage)
    data = merge_nested({key: value for key, value in data.items() if value is not None}, defaults or {})
    return build_job(data, overrides, path)


def build_job(data: dict[str, Any], overrides: Sequence[str], path: str | None = None) -> Job:
    """Apply overrides to the data of a job and validate it; see `load_job`."""
    return build_section(Job, data, overrides, path)


def build_section(
    kind: type[_Section],
    data: dict[str, Any],
    overrides: Sequence[str],
    path: str | None,
    expand: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> _Section:
    """Apply overrides to the data of a job of any kind and validate it.

    Args:
        kind: Class of the job.
        data: Data of the job file with marked paths; changed in place.
        overrides: `dotted.path=YAML value`.
        path: The job file, from whose folder marked paths are relative.
        expand: Writes out what is short for something.

    Raises:
        JobError: If the job is invalid; one line names all problems.
    """
    for override in overrides:
        apply_override(data, override)
    data = expand(data)
    job_paths.resolve_job_paths(data, _folder_of_job_file(path))
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        prefix = f"{path}: " if path else ""
        raise JobError(prefix + "; ".join(explain_validation_errors(error.errors(), kind))) from None


def read_job_data(
    path: str, storage: StorageOptions | None, expand: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> dict[str, Any]:
    """Read a job file; its paths are marked as such, because they are relative to its folder.

    Args:
        path: A YAML file, local or in a bucket.
        storage: Storage options for a file in a bucket.
        expand: Writes out what is short for something, before paths are looked for.

    Raises:
        JobError: If it cannot be read, or is no mapping.
    """
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
    data = expand(data)
    job_paths.mark_job_file_paths(data, _folder_of_job_file(path))
    return data


def _folder_of_job_file(path: str | None) -> str | None:
    return None if path is None or is_object_uri(path) else os.path.dirname(os.path.abspath(path))


def _read_job_text(path: str, storage: StorageOptions | None) -> str:
    if not is_object_uri(path):
        return Path(path).read_text(encoding="utf-8")
    from cvbatch.storage.buckets import open_bucket  # a local file needs no object store client

    location = Location.from_uri(path, storage)
    try:
        return open_bucket(location).get_object(location.key, _MAX_JOB_BYTES).data.decode()
    except TooLargeError as error:
        raise JobError(f"{location} is not a job file: {error}") from None
