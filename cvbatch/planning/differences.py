"""Differences between two records, in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def list_differences(stored: Any, requested: Any) -> list[str]:
    """One phrase for each key in which what is stored differs from what is requested.

    Args:
        stored: Plain data, such as the identity of a run.
        requested: The same of a job.
    """
    return list(_iter_differences("", json.loads(json.dumps(stored)), json.loads(json.dumps(requested))))


def _iter_differences(path: str, stored: Any, requested: Any) -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(requested, dict):
        for key in {**stored, **requested}:
            yield from _iter_differences(f"{path}.{key}".lstrip("."), stored.get(key), requested.get(key))
    elif isinstance(stored, list) and isinstance(requested, list) and len(stored) == len(requested):
        for index, pair in enumerate(zip(stored, requested, strict=True)):
            yield from _iter_differences(f"{path}.{index}", *pair)
    elif stored != requested:
        yield f"{path} is {_shorten_value(stored)} in the run, {_shorten_value(requested)} in the job"


def _shorten_value(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "…"
