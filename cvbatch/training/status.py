"""How a training is doing, as plain data and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from cvbatch.errors import OutputError
from cvbatch.output.lease import describe_holder, is_lease_held
from cvbatch.output.store import Store, open_store
from cvbatch.results.committed import Output, Storage
from cvbatch.results.console import facts_table, format_duration
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.training.log import TrainingLog, TrainingState
from cvbatch.training.plan import TrainingPlan, load_training_plan
from cvbatch.training.progress import TrainingProgress, read_progress
from cvbatch.training.wording import describe_loss, describe_speed, format_metric


def open_training(output: Output, storage: Storage = None) -> tuple[Store, TrainingPlan]:
    """The store and the plan of a training.

    Args:
        output: The output of `cvbatch train`.
        storage: Options for an object store.

    Raises:
        OutputError: If there is none.
    """
    store = open_store(Location.from_path_or_uri(output, StorageOptions.from_mapping(storage or {})))
    plan = load_training_plan(store)
    if plan is None:
        raise OutputError(f"{store.root} holds no training; expected the output of cvbatch train")
    return store, plan


def training_status(output: Output, *, storage: Storage = None) -> dict[str, Any]:
    """Status of a training, from its plan, log and progress alone.

    Args:
        output: The output of `cvbatch train`.
        storage: Options for an object store.

    Returns:
        Plain data; `epoch` is the one that is learned now, or the last finished one, `seconds_left` is None where
        nothing runs, and `checkpoint` is where the same command would go on.

    Raises:
        OutputError: If there is no training.
    """
    store, plan = open_training(output, storage)
    state = TrainingLog(store).state
    held, progress = is_lease_held(store, state), read_progress(store)
    if progress is not None and progress.attempt != state.epoch:
        progress = None
    best = {key: value for key, value in (state.best or {}).items() if key not in ("weights", "sha256")}
    return {
        "output": str(store.root),
        "kind": "training",
        "model": plan.start.name,
        "task": plan.start.task,
        "categories": len(plan.counts),
        "images": {"learned": plan.trained, "validation": plan.validated},
        "finished": state.is_final,
        "held": held,
        "holder": describe_holder(state),
        "starts": state.epoch,
        "epochs": planned_epochs(plan),
        "best": best or None,
        "checkpoint": {"epochs": state.position.epoch, "steps": state.position.step},
        **_describe_newest(state, progress, held=held),
    }


def planned_epochs(plan: TrainingPlan) -> int:
    """Epochs of all stages."""
    return sum(stage["epochs"] for stage in plan.job["stages"])


def _describe_newest(state: TrainingState, progress: TrainingProgress | None, *, held: bool) -> dict[str, Any]:
    """What is learned now, or was learned last."""
    if held and progress is not None:
        return {
            "phase": progress.phase,
            "epoch": progress.epoch,
            "step": progress.step,
            "steps": progress.steps,
            "loss": dict(progress.loss),
            "rate": progress.rate,
            "images_per_second": progress.images_per_second,
            "waiting": progress.waiting,
            "seconds_left": progress.seconds_remaining,
        }
    row: Mapping[str, Any] = state.history[-1] if state.history else {}
    return {
        "phase": "starting" if held else None,
        "epoch": row.get("epoch", 0),
        "step": row.get("steps", 0),
        "steps": None if progress is None else progress.steps,
        "loss": dict(row.get("loss", {})),
        "rate": row.get("rate"),
        "images_per_second": row.get("images_per_second"),
        "waiting": row.get("waiting"),
        "seconds_left": None,
    }


def training_table(status: Mapping[str, Any]) -> Table:
    """A table of the progress of a training; `status` is from `training_status`."""
    state = "finished" if status["finished"] else status["phase"] if status["held"] else "interrupted"
    images = status["images"]
    rows = [
        ("state", f"{state}, {status['starts']} attempt(s), the last by {status['holder']}"),
        ("model", f"{status['model']}, {status['task']}, {status['categories']:,} classes"),
        ("images", f"{images['learned']:,} to learn from, {images['validation']:,} for validation"),
        ("epoch", _describe_epoch(status)),
    ]
    if status["loss"]:
        rows.append(("loss", describe_loss(status["loss"])))
    if status["best"]:
        scores = ", ".join(f"{name} {format_metric(value)}" for name, value in status["best"]["scores"].items())
        rows.append(("best", f"epoch {status['best']['epoch']}: {scores}"))
    if status["held"] and status["images_per_second"]:
        rows.append(("speed", describe_speed(status["images_per_second"], status["waiting"])))
    rows.append(("go on", _describe_next_step(status)))
    return facts_table(rows, title=status["output"])


def _describe_epoch(status: Mapping[str, Any]) -> str:
    text = f"{status['epoch']} of {status['epochs']}"
    if status["finished"] and status["epoch"] < status["epochs"]:
        text += ", ended early: no better one came"
    if status["held"] and status["steps"]:
        text += f", step {status['step']:,} of {status['steps']:,}"
    return text + (f", {format_duration(status['seconds_left'])} left" if status["seconds_left"] else "")


def _describe_next_step(status: Mapping[str, Any]) -> str:
    if status["finished"]:
        return f"cvbatch run --model {status['output']}"
    if status["held"]:
        return f"cvbatch status {status['output']} --watch"
    checkpoint = status["checkpoint"]
    place = f"{checkpoint['epochs']} epochs" + (f" and {checkpoint['steps']:,} steps" if checkpoint["steps"] else "")
    whence = f"from its checkpoint after {place}" if checkpoint["epochs"] or checkpoint["steps"] else "from its start"
    return f"the same cvbatch train goes on {whence}"
