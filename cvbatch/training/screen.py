"""What a person sees of a training: a bar while it runs, and a table at its end."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from cvbatch.results.console import format_duration
from cvbatch.system.standard_streams import get_terminal_stream
from cvbatch.training.fitting import TrainingReport
from cvbatch.training.onnx_export import OnnxExport
from cvbatch.training.progress import TrainingProgress
from cvbatch.training.wording import describe_progress, format_metric


class _BarWithDetails(Progress):
    """A bar, and a line below it: on a narrow terminal one line would be too short for both."""

    details = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        """See `Progress`."""
        yield from super().get_renderables()
        if self.details:
            yield Text(self.details, overflow="ellipsis", no_wrap=True)


class TrainingScreen:
    """A `TrainingObserver` with a bar on a terminal, and a line for each epoch elsewhere.

    Args:
        quiet: Show nothing, because standard output has JSON.
        console: Where to show it; by default on standard error.
    """

    def __init__(self, *, quiet: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(file=get_terminal_stream(), quiet=quiet, force_jupyter=False)
        self._bar = _BarWithDetails(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[time_left]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, time_left="")
        self._said = ""

    def __enter__(self) -> TrainingScreen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def on_phase(self, description: str) -> None:
        """See `TrainingObserver`."""
        self._bar.details = ""
        self._bar.update(self._task, description=description, time_left="")
        self._say(description.partition(":")[0])

    def on_progress(self, progress: TrainingProgress) -> None:
        """See `TrainingObserver`."""
        epoch = f"epoch {progress.epoch} of {progress.epochs}"
        text = describe_progress(progress)
        seconds = progress.seconds_remaining
        self._bar.details = text.removeprefix(f"{epoch}, ")
        self._bar.update(
            self._task,
            description=epoch,
            total=progress.steps,
            completed=progress.step,
            time_left="" if seconds is None else f"{format_duration(seconds)} left",
        )
        self._say(epoch, text)

    def _say(self, key: str, text: str | None = None) -> None:
        """A plain line where there is no bar, once for each key."""
        if not self._console.is_terminal and key != self._said:
            self._said = key
            self._console.print(text or key, markup=False, highlight=False)


def render_training(report: TrainingReport, export: OnnxExport | None = None) -> Any:
    """A table of what a training has come to.

    Args:
        report: Of the training.
        export: Its ONNX file, if there is one.
    """
    table = Table(show_header=False, box=None)
    plan, best = report.plan, report.best
    table.add_row("model", f"{plan.start.name}, {plan.start.task}, {len(plan.counts)} classes")
    table.add_row("images", f"{plan.trained:,} learned, {plan.validated:,} for validation")
    table.add_row("best", f"epoch {best['epoch']} of {len(report.state.history)}")
    for name, value in best["scores"].items():
        table.add_row(name, format_metric(value) + _describe_interval(report, name))
    for note in (*plan.notes, *report.judgement.notes):
        table.add_row("note", note)
    table.add_row("use it", f"cvbatch run --model {report.output}")
    if export is not None:
        table.add_row("ONNX", f"cvbatch run --model onnx:{export.path}")
        table.add_row("", _describe_parity(export))
    return table


def _describe_interval(report: TrainingReport, name: str) -> str:
    pairs = [metrics.intervals[name] for metrics in report.judgement.metrics.values() if name in metrics.intervals]
    return f", 95 % from {pairs[0][0]:.4f} to {pairs[0][1]:.4f}" if pairs else ""


def _describe_parity(export: OnnxExport) -> str:
    same = f"the same labels on {export.same_labels:,} of {export.images:,} validation images"
    return f"{same}, scores differ by at most {export.difference:.1g}; {export.bytes / 1e6:.1f} MB"
