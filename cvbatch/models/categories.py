"""Names of the label ids of own weights, as a job gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError, TooLargeError
from cvbatch.storage.location import Location, is_object_uri
from cvbatch.tasks import TASKS
from cvbatch.tasks.base import BackgroundClass

MOST_IDS: Final = 1 << 20
"""Largest accepted label id; a larger one is a mistake."""
_MAX_NAMES_BYTES: Final = 4 << 20
_BACKGROUND: Final = ("__background__", "background")
"""First names that mean the background; the second one only where a network may have a background output."""
_NOT_EMITTED: Final = "N/A"


def own_categories(model: ModelConfig, task: str) -> tuple[str | None, ...]:
    """Return the categories of own weights; None where a label id is never emitted.

    Args:
        model: With a checkpoint.
        task: Task of the model.

    Raises:
        ModelError: There are no categories, or some have no name.
    """
    names = list(_listed_categories(model))
    if not names or not all(names):
        raise ModelError(f"categories: expected a name for every label id, got an empty one in {model.categories}")
    categories = [None if name == _NOT_EMITTED else name for name in names]
    may_have_background = model.background or TASKS[task].background is not BackgroundClass.NEVER
    if categories[0] in _BACKGROUND[: 2 if may_have_background else 1]:
        categories[0] = None
    elif model.background and categories[0] is not None:
        categories.insert(0, None)
    return tuple(categories)


def _listed_categories(model: ModelConfig) -> Sequence[str]:
    listed = model.categories
    if listed is None:
        raise ModelError(f"checkpoint: {model.model} needs categories: too, as a list or a file with one name a line")
    if isinstance(listed, Mapping):
        if not listed or not 0 <= min(listed) <= max(listed) <= MOST_IDS:
            raise ModelError(f"categories: expected label ids from 0 on, got {min(listed, default='none')}")
        return [listed.get(label_id, _NOT_EMITTED).strip() for label_id in range(max(listed) + 1)]
    if not isinstance(listed, str):
        return [name.strip() for name in listed]
    return read_lines(listed, model, "categories")


def read_lines(file: str, model: ModelConfig, key: str) -> list[str]:
    """Read a file with a text on each line, on this machine or in a bucket; empty lines at its end do not count.

    Args:
        file: Path or URI.
        model: Knows how to reach the bucket.
        key: Key of the job that names the file, for messages.

    Raises:
        ModelError: It cannot be read, or is no text.
    """
    try:
        lines = [line.strip() for line in _read_text(file, model).splitlines()]
    except (OSError, UnicodeDecodeError, TooLargeError) as error:
        raise ModelError(f"{key}: cannot read {file}: {error}") from None
    while lines and not lines[-1]:
        lines = lines[:-1]
    return lines


def _read_text(file: str, model: ModelConfig) -> str:
    if not is_object_uri(file):
        return Path(file).expanduser().read_text(encoding="utf-8")
    from cvbatch.storage.buckets import open_bucket  # a local file needs no object store client

    location = Location.from_uri(file, model.storage_options)
    return open_bucket(location).get_object(location.key, _MAX_NAMES_BYTES).data.decode()
