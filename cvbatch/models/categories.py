"""The names of a model's label ids, as a job gives them for own weights."""

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
"""A label id above is a slip."""
_MAX_NAMES_BYTES: Final = 4 << 20
_BACKGROUND: Final = ("__background__", "background")
"""First names that mean what is none of the classes; the second one only where there is such a thing."""
_NOT_EMITTED: Final = "N/A"


def own_categories(model: ModelConfig, task: str) -> tuple[str | None, ...]:
    """The categories of own weights; None where a label id is never emitted.

    Args:
        model: With a checkpoint.
        task: What it does.

    Raises:
        ModelError: There are none, or some without a name.
    """
    names = list(_listed_categories(model))
    if not names or not all(names):
        raise ModelError(f"categories: expected a name for every label id, got an empty one in {model.categories}")
    kept = [None if name == _NOT_EMITTED else name for name in names]
    may_have_one = model.background or TASKS[task].background is not BackgroundClass.NEVER
    if kept[0] in _BACKGROUND[: 2 if may_have_one else 1]:
        kept[0] = None
    elif model.background and kept[0] is not None:
        kept.insert(0, None)
    return tuple(kept)


def _listed_categories(model: ModelConfig) -> Sequence[str]:
    given = model.categories
    if given is None:
        raise ModelError(f"checkpoint: {model.model} needs categories: too, as a list or a file with one name a line")
    if isinstance(given, Mapping):
        if not given or not 0 <= min(given) <= max(given) <= MOST_IDS:
            raise ModelError(f"categories: expected label ids from 0 on, got {min(given, default='none')}")
        return [given.get(at, _NOT_EMITTED).strip() for at in range(max(given) + 1)]
    if not isinstance(given, str):
        return [name.strip() for name in given]
    try:
        names = [name.strip() for name in _read_category_file(given, model).splitlines()]
    except (OSError, UnicodeDecodeError, TooLargeError) as error:
        raise ModelError(f"categories: cannot read {given}: {error}") from None
    while names and not names[-1]:
        names = names[:-1]
    return names


def _read_category_file(file: str, model: ModelConfig) -> str:
    if not is_object_uri(file):
        return Path(file).expanduser().read_text(encoding="utf-8")
    from cvbatch.storage.buckets import open_bucket  # a local file needs no clients of object stores

    place = Location.from_uri(file, model.storage_options)
    return open_bucket(place).get_object(place.key, _MAX_NAMES_BYTES).data.decode()
