"""Numbers of a training in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cvbatch.training.progress import TrainingProgress

_WAITING: Final = 0.05
"""Least share of waiting that is worth a word."""


def describe_progress(progress: TrainingProgress) -> str:
    """A progress in one line."""
    parts = [f"epoch {progress.epoch} of {progress.epochs}"]
    if progress.phase != "learning":
        parts.append(progress.phase)
    if progress.loss:
        parts.append(f"loss {describe_loss(progress.loss)}")
    parts += [f"{name} {format_metric(value)}" for name, value in list(progress.scores.items())[:1]]
    parts.append(describe_speed(progress.images_per_second, progress.waiting))
    return ", ".join(parts)


def describe_loss(loss: Mapping[str, float]) -> str:
    """The parts of a loss as text."""
    return " + ".join(f"{name} {value:.4g}" for name, value in loss.items())


def describe_speed(images_per_second: float, waiting: float) -> str:
    """How fast, and how much of the time is lost."""
    text = f"{images_per_second:,.0f} images/s"
    return text if waiting < _WAITING else f"{text}, {waiting:.0%} waiting for images"


def format_metric(value: float | None) -> str:
    """A metric as text."""
    return "unknown" if value is None else f"{value:.4f}"
