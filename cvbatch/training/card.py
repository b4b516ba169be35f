"""The model card: what was trained on what, how good it is, and what it is for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from cvbatch.config.train_job import NO_CHANGES, TrainJob
from cvbatch.models.backends import backend_of
from cvbatch.tasks import CLASSIFICATION, DETECTION, SEGMENTATION
from cvbatch.training.card_texts import describe_limits, describe_use
from cvbatch.training.judging import Judgement
from cvbatch.training.log import TrainingState
from cvbatch.training.plan import TrainingPlan
from cvbatch.training.wording import format_metric

CURVES_FILE: Final = "curves.png"
_MOST_CLASSES: Final = 200
"""Rows of the table of classes."""

_FOREIGN: Final = {
    CLASSIFICATION.name: {"localisation", "auxiliary"},
    DETECTION.name: {"auxiliary"},
    SEGMENTATION.name: {"localisation"},
}
"""Settings of the loss that say nothing about a task."""


def write_card(plan: TrainingPlan, state: TrainingState, job: TrainJob, judgement: Judgement, *, curves: bool) -> str:
    """Write the card as Markdown.

    Args:
        plan: Of the training.
        state: With the best epoch and the history.
        job: With what the user says of the model.
        judgement: Metrics with intervals.
        curves: Whether there is a picture of the curves beside it.
    """
    return "\n".join(_lines(plan, state, job, judgement, curves=curves)) + "\n"


def _lines(
    plan: TrainingPlan, state: TrainingState, job: TrainJob, judgement: Judgement, *, curves: bool
) -> Iterator[str]:
    best: Mapping[str, Any] = state.best or {}
    yield from (f"# {plan.start.name} for {plan.start.task} of {len(plan.counts)} classes", "")
    yield from ("```sh", "cvbatch run --source photos --model . --output labels", "```", "")
    yield from ("## Intended use", "", job.card.intended_use or describe_use(plan), "")
    yield from ("## Limits", "", *_bullets(describe_limits(plan, best, job)), "")
    yield from ("## How good it is", "")
    yield from _scores(best, judgement)
    yield from _class_scores(plan, judgement)
    yield from ("## What it learned from", "")
    yield from _data(plan, job)
    yield from ("## How it learned", "")
    yield from _start(plan, job)
    yield from _stages(job)
    settings = job.loss.model_dump(mode="json").items()
    yield from _table(("loss", ""), [(key, value) for key, value in settings if key not in _FOREIGN[job.task]])
    if curves:
        yield from (f"![Loss, validation and learning rate]({CURVES_FILE})", "")
    yield from _history(state)
    yield from _table(("version", ""), plan.versions.items())


def _bullets(sentences: Sequence[str]) -> Iterator[str]:
    yield from (f"- {sentence}" for sentence in sentences)


def _scores(best: Mapping[str, Any], judgement: Judgement) -> Iterator[str]:
    yield f"Epoch {best['epoch']} is kept, the best by `{next(iter(best['scores']))}` of the validation images."
    yield ""
    yield from _table(("validation", "value"), ((name, format_metric(value)) for name, value in best["scores"].items()))
    for kind, metrics in judgement.metrics.items():
        rows = [
            (name, format_metric(value), _interval(metrics.intervals.get(name)))
            for name, value in metrics.values.items()
        ]
        title = f"{kind}, {metrics.images:,} images labelled by `cvbatch run`"
        yield from _table((title, "value", "95 % interval"), rows)
    if judgement.notes:
        yield from (*_bullets(judgement.notes), "")


def _interval(pair: tuple[float, float] | None) -> str:
    return "" if pair is None else f"{pair[0]:.4f} to {pair[1]:.4f}"


def _class_scores(plan: TrainingPlan, judgement: Judgement) -> Iterator[str]:
    """How often each class occurs, and how well it is recognised."""
    per_class = next((metrics.per_class for metrics in judgement.metrics.values()), {})
    names = list(dict.fromkeys(name for numbers in per_class.values() for name in numbers if name != "images"))
    rows = []
    for category, count in list(plan.counts.items())[:_MOST_CLASSES]:
        numbers = per_class.get(category, {})
        rows.append((category, f"{count:,}", *(_number(numbers.get(name)) for name in names)))
    yield from _table(("class", "in all images", *(f"{name}, validation" for name in names)), rows)
    if len(plan.counts) > _MOST_CLASSES:
        yield from (f"and {len(plan.counts) - _MOST_CLASSES:,} more classes", "")


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _data(plan: TrainingPlan, job: TrainJob) -> Iterator[str]:
    split = f"by the file {job.split.file}" if job.split.file else f"{job.split.validation:.0%} by seed {job.seed}"
    if job.split.by is not None:
        split += f", images of the same {job.split.by} together"
    rows = {
        "images": f"{plan.trained + plan.validated:,}",
        "to learn from": f"{plan.trained:,}",
        "for validation": f"{plan.validated:,}, {split}: `validation.csv`",
        "sha256 of their sorted sha256 sums": f"`{plan.data_sha256}`",
        "sources": ", ".join(job.source.uris),
        "truth": f"{job.truth.uri} ({plan.truth_layout})",
        "planned": datetime.fromtimestamp(plan.created_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    yield from _table(("data", ""), rows.items())
    if plan.notes:
        yield from (*_bullets(plan.notes), "")


def _start(plan: TrainingPlan, job: TrainJob) -> Iterator[str]:
    start = plan.start
    weights = start.weights or ("own weights" if start.weights_path else "random")
    rows = {
        "network": f"{start.name} ({backend_of(start).name})",
        "weights": weights,
        "sha256 of the weights": f"`{start.weights_sha256}`" if start.weights_sha256 else "",
        "licence of the weights": start.licence or "not known",
        "licence of the result": job.card.licence or "that of the weights it started with",
    }
    yield from _table(("start", ""), rows.items())


def _stages(job: TrainJob) -> Iterator[str]:
    names = ("layers", "epochs", "optimizer", "rate", "backbone_rate", "weight_decay", "schedule", "warmup", "clip")
    rows = []
    for number, stage in enumerate(job.stages):
        values = stage.model_dump(mode="json")
        rows.append((str(number), *(_plain(values[name]) for name in names), _changes(job, number)))
    yield from _table(("stage", *names, "changes of images"), rows)
    settings = {
        "batch": f"{job.batch_size} images",
        "seed": str(job.seed),
        "precision": job.compute.precision,
        "averaged weights": _plain(job.ema),
        "early stopping": _plain(job.early_stopping),
    }
    yield from _table(("setting", ""), settings.items())


def _changes(job: TrainJob, stage: int) -> str:
    if job.changes_in(stage) == NO_CHANGES:
        return "none"
    return ", ".join(f"{name} {_plain(value)}" for name, value in job.changes_in(stage).model_dump(mode="json").items())


def _plain(value: Any) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(heads: Sequence[str], rows: Any) -> Iterator[str]:
    yield from (f"| {' | '.join(heads)} |", "|---" * len(heads) + "|")
    yield from (f"| {' | '.join(_cell(value) for value in row)} |" for row in rows)
    yield ""


def _cell(value: Any) -> str:
    return str("none" if value is None else value).replace("|", "\\|").replace("\n", " ")


def _history(state: TrainingState) -> Iterator[str]:
    parts = list(dict.fromkeys(name for row in state.history for name in row["loss"]))
    rows = [
        (
            row["epoch"],
            *(format_metric(row["loss"].get(name)) for name in parts),
            format_metric(row["metric"]),
            f"{row['rate']:.2g}",
            f"{row['seconds']:.1f}",
        )
        for row in state.history
    ]
    yield from _table(("epoch", *(f"loss: {name}" for name in parts), "validation", "rate", "seconds"), rows)
