"""Tables and texts about a run for the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cvbatch.inference.settings import InferenceSettings
from cvbatch.schema import ERROR_MESSAGE, IMAGE_URI

_MOST_NODES = 8


def format_duration(seconds: float) -> str:
    """A duration as text, such as `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def facts_table(rows: Iterable[tuple[str, str]], title: str | None = None) -> Table:
    """A table of names and values, which are shown as they are."""
    table = Table(title=_as_it_is(title), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def plain_table(
    numbers: Sequence[str], texts: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None
) -> Table:
    """A table without lines; what is in it is shown as it is, so that a file may be called `[b].jpg`.

    Args:
        numbers: Headings of the first columns, which are numbers.
        texts: Headings of the other columns.
        rows: Values of all columns.
        title: Goes above the table.
    """
    table = Table(title=_as_it_is(title), title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in numbers:
        table.add_column(name, justify="right")
    for name in texts:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _as_it_is(title: str | None) -> Text | None:
    return None if title is None else Text(title, style="table.title")


def models_table(task: str, models: Iterable[Mapping[str, Any]]) -> Table:
    """A table of the models for a task; weights other than the default are part of the name."""
    table = Table(title=f"\n{task}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for name in ("categories", "licence", "MB", "here"):
        table.add_column(name, no_wrap=True, justify="right" if name == "MB" else "left")
    for model in models:
        name = model["model"] if model["default"] else f"{model['model']}:{model['weights']}"
        here = "yes" if model["here"] else "no"
        table.add_row(name, model["categories"], model["licence"], f"{model['megabytes']:.0f}", here)
    return table


def format_counts(counter: Mapping[str, int], max_entries: int = 5) -> str:
    """Counts as text, the most frequent first and equal counts by name."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered[:max_entries]) or "none"


def estimate_table(estimate: Mapping[str, Any]) -> Table:
    """A table of the expected resources, speed and cost; `estimate` is from `estimate_job`."""
    evolve = [("with --evolve", text)] if (text := _describe_evolution(estimate)) else []
    if "rate" not in estimate:
        return facts_table([("images", f"{estimate['images']:,}"), *evolve])
    size = f", {estimate['bytes'] / 1e9:.1f} GB" if estimate["bytes"] else ""
    cpu_workers = f"{estimate['actors']} × {estimate['threads']} threads"
    workers = cpu_workers if estimate["device"] == "cpu" else f"{estimate['actors']} GPUs"
    speed = f"{estimate['predict_per_actor']:.1f} images/s each"
    rows = [
        ("images", f"{estimate['images']:,}{size}"),
        ("predict", f"on {workers}, units of {estimate['unit_rows']}: {speed}"),
        ("decode", f"{estimate['decode_tasks']} tasks at once: {estimate['decode_per_core']:.1f} images/s on one core"),
        (
            "in flight",
            f"{estimate['units_in_flight']} units per process, at most {estimate['bytes_in_flight'] >> 20:,} MB of "
            f"pixels; the object store has {estimate['object_store_bytes'] >> 20:,} MB",
        ),
        ("expected", f"{estimate['rate']:.1f} images/s, {format_duration(estimate['seconds'])} plus startup"),
        ("held back by", estimate["bottleneck"]),
    ]
    if estimate["passes"]:
        passes = "; ".join("+".join(aliases) for aliases in estimate["passes"])
        rows.insert(1, ("passes", f"{passes}: not all models fit into memory at once, so images are read for each"))
    if estimate["skipped"]:
        rows.insert(1, ("other files skipped", format_counts(estimate["skipped"])))
    if estimate["cpu_cores_per_gpu"] is not None:
        rows.append(("CPU cores per GPU", f"{estimate['cpu_cores_per_gpu']:.1f}"))
    if estimate["cost_per_million"] is not None:
        rows.append(("cost", f"{estimate['cost_per_million']:.2f} per million images"))
    rows.append(("setting", f"{InferenceSettings(**estimate['parity']['setting'])}: {estimate['parity']['reason']}"))
    return facts_table([*evolve, *rows])


def _describe_evolution(estimate: Mapping[str, Any]) -> str:
    """What happens to the columns of the run in the output; empty if it has the models of the job, or there is none."""
    text = "; ".join(f"{verb} {', '.join(names)}" for verb, names in estimate.get("evolve", {}).items())
    if text and estimate["to_go"]:
        return f"{text}; finish the run with its earlier job first: {estimate['to_go']:,} rows to go"
    return text


def status_table(status: Mapping[str, Any]) -> Table:
    """A table of the progress of a run and its workers; `status` is from `run_status`."""
    state = "finished" if status["finished"] else "running" if status["held"] else "not running"
    rows = [
        ("state", f"{state}, {status['starts']} attempt(s), the last by {status['holder']}"),
        ("rows", f"{status['rows']:,} of {status['rows_planned']:,}, {status['to_go']:,} to go"),
        ("errors", format_counts(status["errors"])),
    ]
    if status["removed"]:
        rows.append(("removed from the source", f"{status['removed']:,}"))
    rows += [
        (
            f"models until {earlier['until']}",
            ", ".join(f"{alias} ({name})" for alias, name in earlier["models"].items()),
        )
        for earlier in status["earlier_models"]
    ]
    has_time_left = status["held"] and status["seconds_left"]
    time_left = f", {format_duration(status['seconds_left'])} left" if has_time_left else ""
    if status["rate"] is not None:
        rows.append(("rate", f"{status['rate']:.1f} images/s{time_left}"))
    if status["held"] and status["workers_planned"]:
        rows.append(("predicting", f"{status['workers']} of {status['workers_planned']} processes in the last minutes"))
        rows += _describe_bottleneck(status)
    if status["held"]:
        rows += [
            ("nodes" if index == 0 else "", _describe_node(node))
            for index, node in enumerate(_idlest_nodes(status["nodes"]))
        ]
    return facts_table(rows, title=status["output"])


def _idlest_nodes(nodes: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The most idle nodes; empty if there is only one node."""
    ordered = sorted(nodes, key=lambda node: (node["predicting"] > 0, -(node["idle_share"] or 0), node["host"]))
    return ordered[:_MOST_NODES] if len(nodes) > 1 else []


def _describe_node(node: Mapping[str, Any]) -> str:
    name = f"{node['host']} ({node['address']})"
    resources = f"{node['cpus']:g} CPUs" + (f", {node['gpus']:g} GPUs" if node["gpus"] else "")
    if not node["predicting"]:
        return f"{name}: {resources}, predicts nothing"
    idle = "" if node["idle_share"] is None else f", idle {node['idle_share']:.0%}"
    return f"{name}: {resources}, {node['predicting']} predicting, {node['rows']:,} rows{idle}"


def _describe_bottleneck(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Table rows about the bottleneck stage and the idle share of the predict processes."""
    busy_shares, idle_shares = facts["busy_shares"], facts["idle_shares"]
    rows = []
    if busy_shares:
        bottleneck = max(busy_shares, key=lambda stage: busy_shares[stage])
        shares = ", ".join(f"{stage} {share:.0%}" for stage, share in busy_shares.items())
        rows.append(("held back by", f"{bottleneck} (at work since the first commit: {shares})"))
    if idle_shares:
        lowest, highest, count = min(idle_shares), max(idle_shares), len(idle_shares)
        text = f"{lowest:.0%}" if count == 1 else f"{lowest:.0%} to {highest:.0%} of {count} processes"
        rows.append(("predict idle", text))
    return rows


def _describe_pace(seconds: float, rate: float) -> str:
    return f"{format_duration(seconds)}, {rate:.1f} images/s"


def relative_to_cwd(uri: str) -> str:
    """A path relative to the current folder if it is inside; everything else unchanged."""
    return uri.removeprefix(os.path.join(os.getcwd(), ""))


def summary_table(summary: Mapping[str, Any]) -> Table:
    """The summary table at the end of an attempt; `summary` is from `summarize_run`."""
    rows = [("images", f"{summary['rows']:,}"), ("errors", format_counts(summary["errors"]))]
    rows += [("", f"{relative_to_cwd(failed[IMAGE_URI])}: {failed[ERROR_MESSAGE]}") for failed in summary["failed"]]
    if summary["skipped"]:
        rows.append(("other files skipped", format_counts(summary["skipped"])))
    if summary["unreadable"]:
        rows.append(("not readable", ", ".join(summary["unreadable"][:5])))
    if summary["rows_this_start"]:
        if summary.get("command_seconds"):  # runs of earlier versions do not have it
            rows.append(("the whole command", _describe_pace(summary["command_seconds"], summary["command_rate"])))
        rows.append(("since Ray was ready", _describe_pace(summary["seconds"], summary["rate"])))
        stage_times = (f"{name} {seconds:.1f} s" for name, seconds in summary["stage_seconds"].items())
        rows.append(("time by stage", ", ".join(stage_times) + " (summed over workers)"))
        rows += _describe_bottleneck(summary)
    rows += [(f"{alias}: most often", format_counts(labels)) for alias, labels in summary["top_labels"].items()]
    rows.append(("predictions", summary["output"]))
    return facts_table(rows)
