"""What a user asks for: the job file, checked and with its defaults."""

from __future__ import annotations

from typing import Any

from cvbatch.deprecated import moved_name


def __getattr__(name: str) -> Any:
    return moved_name("cvbatch.config", name, "cvbatch.tasks" if name == "TASKS" else "cvbatch.config.job")
