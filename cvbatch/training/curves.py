"""Curves of a training: parts of the loss, metrics and learning rate, as plots of a page and as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from cvbatch.errors import UsageError
from cvbatch.report.page_data import Plot
from cvbatch.system.extras import import_extra
from cvbatch.training.log import TrainingState

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Line = list[tuple[float, float]]
_DPI: Final = 110
_WIDTH, _HEIGHT = 11.0, 3.4
"""Inches."""
_COLOURS: Final = ("#2563b0", "#c2571a", "#2e7d4f", "#8a3d8f", "#7a6a1f", "#4b5563")
_INK, _RULE, _FAINT = "#3d4451", "#d9dde3", "#aab2bf"


def loss_plot(state: TrainingState) -> Plot:
    """The whole loss over the steps, and where it has several parts each of them over the epochs."""
    lines = {"each step": _step_line(state, 1)}
    parts = list(dict.fromkeys(name for row in state.history for name in row["loss"]))
    for name in parts:
        line = [(row["steps"], row["loss"][name]) for row in state.history if name in row["loss"]]
        lines[f"{name}, mean of an epoch"] = line
    return Plot("Loss", "step", "loss", lines)


def metric_plot(state: TrainingState) -> Plot:
    """The metrics of the validation images over the epochs; what is no share, such as a loss, is left out."""
    names = list(dict.fromkeys(name for row in state.history for name in row["scores"]))
    lines = {
        name: [(row["epoch"], row["scores"][name]) for row in state.history if row["scores"].get(name) is not None]
        for name in names
    }
    shares = {name: line for name, line in lines.items() if line and all(0 <= value <= 1 for _, value in line)}
    first = next(iter(lines), None)
    if first is not None and first in shares:
        shares = {name: line for name, line in shares.items() if "loss" not in name}
    return Plot("Validation", "epoch", "metric", shares)


def rate_plot(state: TrainingState) -> Plot:
    """The learning rate of the head over the steps."""
    return Plot("Learning rate", "step", "rate of the head", {"rate": _step_line(state, 2)})


def all_plots(state: TrainingState) -> list[Plot]:
    """The plots that have a line."""
    return [plot for plot in (loss_plot(state), metric_plot(state), rate_plot(state)) if any(plot.lines.values())]


def _step_line(state: TrainingState, column: int) -> Line:
    return [(point[0], point[column]) for row in state.history for point in row.get("points", ())]


def draw_curves(state: TrainingState) -> bytes | None:
    """Draw the plots side by side.

    Args:
        state: With a history.

    Returns:
        A PNG file; None if there is nothing to draw, or matplotlib is not installed.
    """
    plots = all_plots(state)
    try:
        import_extra("matplotlib", "report", "curves of a training")
    except UsageError:
        return None
    if not plots:
        return None
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, layout="constrained", facecolor="white")
    for axes, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        _draw_plot(axes, plot)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _draw_plot(axes: Axes, plot: Plot) -> None:
    for number, (name, line) in enumerate(plot.lines.items()):
        is_faint = name == "each step" and len(plot.lines) > 1
        axes.plot(
            [x for x, _ in line],
            [y for _, y in line],
            color=_FAINT if is_faint else _COLOURS[number % len(_COLOURS)],
            linewidth=1.0 if is_faint else 1.8,
            marker="o" if len(line) == 1 else None,
            label=name,
        )
    axes.set_title(plot.title, loc="left", fontsize=11, color=_INK, fontweight="bold")
    axes.set_xlabel(plot.x_title, fontsize=9, color=_INK)
    axes.set_ylabel(plot.y_title, fontsize=9, color=_INK)
    axes.tick_params(labelsize=8, colors=_INK, length=0)
    axes.grid(axis="y", color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_RULE)
    if len(plot.lines) > 1:
        axes.legend(fontsize=8, frameon=False, labelcolor=_INK)


def curve_rows(history: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """The epochs as rows of a table: number, stage, whole loss, metric, rate, images per second, share of waiting."""
    return [
        [
            row["epoch"],
            row["stage"],
            sum(row["loss"].values()),
            row["metric"],
            f"{row['rate']:.2g}",
            round(row["images_per_second"], 1),
            round(row["waiting"], 3),
        ]
        for row in history
    ]
