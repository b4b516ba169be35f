"""The model card: what was trained on what, and how good it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cvbatch.models.backends import backend_of
from cvbatch.training.log import TrainingState
from cvbatch.training.plan import TrainingPlan


def write_card(plan: TrainingPlan, state: TrainingState) -> str:
    """Write the card as Markdown.

    Args:
        plan: Of the training.
        state: With the best epoch and the history.
    """
    return "\n".join(_lines(plan, state)) + "\n"


def _lines(plan: TrainingPlan, state: TrainingState) -> Iterator[str]:
    best: Mapping[str, Any] = state.best or {}
    yield from (f"# {plan.start.name} for {plan.start.task} of {len(plan.counts)} classes", "")
    yield "```sh"
    yield "cvbatch run --source photos --model . --output labels"
    yield from ("```", "")
    yield from _table("validation", {name: _format(value) for name, value in best.get("scores", {}).items()})
    yield from _table(
        "data",
        {
            "images": f"{plan.trained + plan.validated:,}",
            "for validation": f"{plan.validated:,}",
            "sha256": plan.data_sha256,
            "truth": plan.truth_layout,
        },
    )
    yield from _table("class", {name: f"{count:,}" for name, count in plan.counts.items()})
    start = plan.start
    yield from _table(
        "start",
        {
            "network": start.name,
            "kind": backend_of(start).name,
            "weights": start.weights or ("own weights" if start.weights_path else "random"),
            "sha256": start.weights_sha256 or "",
            "licence": start.licence or "not known",
        },
    )
    yield from _history(state)
    yield from _table("version", dict(plan.versions))


def _table(title: str, rows: Mapping[str, str]) -> Iterator[str]:
    yield from (f"| {title} | |", "|---|---|")
    yield from (f"| {name} | {value} |" for name, value in rows.items())
    yield ""


def _history(state: TrainingState) -> Iterator[str]:
    yield from ("| epoch | loss | validation | seconds |", "|---|---|---|---|")
    for row in state.history:
        loss, metric = _format(sum(row["loss"].values())), _format(row["metric"])
        yield f"| {row['epoch']} | {loss} | {metric} | {row['seconds']:.1f} |"
    yield ""


def _format(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.4f}"
