"""Tasks: how the outputs of a model become columns. A task is one file and one row of `TASKS`."""

from __future__ import annotations

from typing import Final

from cvbatch.tasks.base import Task
from cvbatch.tasks.classification import CLASSIFICATION
from cvbatch.tasks.depth import DEPTH
from cvbatch.tasks.detection import DETECTION
from cvbatch.tasks.embedding import EMBEDDING
from cvbatch.tasks.plugin_table import PluginTable
from cvbatch.tasks.segmentation import SEGMENTATION

__all__ = ["CLASSIFICATION", "DEPTH", "DETECTION", "EMBEDDING", "SEGMENTATION", "TASKS", "Task"]

TASKS: Final = PluginTable[Task]("cvbatch.tasks", Task, (CLASSIFICATION, DETECTION, SEGMENTATION, EMBEDDING, DEPTH))  # type: ignore[type-abstract]
"""All tasks, by name."""
