"""The tasks that can be evaluated."""

from __future__ import annotations

from typing import Final

from cvbatch.evaluation.base import Evaluator

EVALUATORS: Final[dict[str, Evaluator]] = {}
"""By name of the task."""
