"""The job: loading and validating the job file and its overrides."""

from __future__ import annotations

from typing import Any

from cvbatch.deprecated import get_moved_name


def __getattr__(name: str) -> Any:
    if name == "TASKS":  # it was a tuple of names
        return tuple(get_moved_name("cvbatch.config", name, "cvbatch.tasks"))
    return get_moved_name("cvbatch.config", name, "cvbatch.config.job")
