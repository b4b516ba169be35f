"""The tasks that can be evaluated."""

from __future__ import annotations

from typing import Final

from cvbatch.evaluation.base import Evaluator
from cvbatch.evaluation.classification import CLASSIFICATION_EVALUATOR
from cvbatch.evaluation.detection import DETECTION_EVALUATOR
from cvbatch.evaluation.segmentation import SEGMENTATION_EVALUATOR
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION

EVALUATORS: Final[dict[str, Evaluator]] = {
    CLASSIFICATION.name: CLASSIFICATION_EVALUATOR,
    DETECTION.name: DETECTION_EVALUATOR,
    SEGMENTATION.name: SEGMENTATION_EVALUATOR,
}
"""By name of the task."""
