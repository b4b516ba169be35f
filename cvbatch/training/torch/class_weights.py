"""Factors of the classes in a loss."""

from __future__ import annotations

import torch
from torch import Tensor

from cvbatch.errors import JobError
from cvbatch.training.torch.base import TaskContext
from cvbatch.truth.painted_objects import BACKGROUND_NAME


def class_weights(context: TaskContext) -> Tensor | None:
    """(classes,) factors of the loss; None if all are 1.

    Raises:
        JobError: If a class with a weight does not exist.
    """
    asked, plan = context.job.loss.class_weights, context.plan
    names = [BACKGROUND_NAME if name is None else name for name in plan.categories]
    if asked is None:
        return None
    if isinstance(asked, str):
        counts = torch.tensor([float(plan.counts[name]) for name in names])
        return (counts.sum() / (len(counts) * counts.clamp(min=1))).to(context.device)
    unknown = [name for name in asked if name not in names]
    if unknown:
        known = ", ".join(names[:10])
        raise JobError(f"loss.class_weights: expected classes of the truth, such as {known}; got {unknown[0]!r}")
    return torch.tensor([asked.get(name, 1.0) for name in names]).to(context.device)
