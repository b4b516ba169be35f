"""Names of the classes of a graph, and whether their number fits its outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.models.catalog import category_set, category_set_names
from cvbatch.models.categories import own_categories
from cvbatch.models.graphs.keys import GraphKeys
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.tasks.base import BackgroundClass, Task

Categories = tuple[str | None, ...]
_MAY_HAVE_BACKGROUND: Final = ("boxes", "pixel_scores")
"""Heads whose first score may be the background's."""


def find_categories(config: ModelConfig, keys: GraphKeys, task: Task, folder: Path) -> tuple[Categories, str]:
    """The names of the classes, and the name of their set; both empty if nobody says them.

    Args:
        config: As in the job; what it says counts.
        keys: All that is known.
        task: Task of the model.
        folder: Folder of the model, from which files in its YAML file are found.

    Raises:
        ModelError: A name is empty, or a file cannot be read.
    """
    if not task.has_labels:
        return (), ""
    given = keys.categories if config.categories is None else config.categories
    if given is None:
        return (), ""
    if isinstance(given, str):
        name = Path(given).name
        if name in category_set_names() and not Path(given).is_file():
            return category_set(name), name
        given = given if config.categories is not None or "://" in given else str(folder / given)
    return own_categories(config.model_copy(update={"categories": given}), task.name), ""


def fit_categories_to_outputs(categories: Categories, reading: GraphReading, name: str, task: Task) -> Categories:
    """Check the number of classes, and put the background in front where the outputs have it.

    Raises:
        ModelError: There are no categories, or not as many as outputs.
    """
    if not task.has_labels:
        return ()
    classes = None if reading.classes is None else reading.classes - reading.last_is_background
    if not categories:
        count = "its classes" if classes is None else f"its {classes} classes"
        raise ModelError(
            f"{name} does not name {count}: give categories: as a list or a file with one name a line, or "
            "imagenet-1k, coco-80 or coco-91 if they are these"
        )
    if classes in (None, len(categories)):
        return categories
    has_background = task.background is not BackgroundClass.NEVER and reading.head in _MAY_HAVE_BACKGROUND
    if has_background and classes == len(categories) + 1 and categories[0] is not None:
        return (None, *categories)
    raise ModelError(
        f"{name} has {classes} classes, and there are {len(categories)} categories: give one name for each output"
    )
