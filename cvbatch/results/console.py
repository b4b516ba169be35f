"""What a person sees of a run: the summary, tables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from rich.table import Table

from cvbatch.inference.settings import InferenceSettings
from cvbatch.schema import ERROR_MESSAGE, IMAGE_URI

_MOST_NODES = 8


def format_duration(seconds: float) -> str:
    """A time span in words, such as `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def facts_table(rows: Iterable[tuple[str, str]], title: str | None = None) -> Table:
    """A table of names and values."""
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def models_table(task: str, models: Iterable[Mapping[str, Any]]) -> Table:
    """A table of models that can do a task; weights that are not the default are spelled out."""
    table = Table(title=f"\n{task}", title_justify="left", box=None, padding=(0, 1, 0, 0))
    table.add_column("model", no_wrap=True)
    for name in ("categories", "licence", "MB", "here"):
        table.add_column(name, no_wrap=True, justify="right" if name == "MB" else "left")
    for model in models:
        name = model["model"] if model["default"] else f"{model['model']}:{model['weights']}"
        here = "yes" if model["here"] else "no"
        table.add_row(name, model["categories"], model["licence"], f"{model['megabytes']:.0f}", here)
    return table


def format_counts(counter: Mapping[str, int], most: int = 5) -> str:
    """Counts in words, the most frequent first and equal ones by name."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered[:most]) or "none"


def estimate_table(found: Mapping[str, Any]) -> Table:
    """What a run would be like."""
    size = f", {found['bytes'] / 1e9:.1f} GB" if found["bytes"] else ""
    where = f"{found['actors']} × {found['threads']} threads" if found["device"] == "cpu" else f"{found['actors']} GPUs"
    rows = [
        ("images", f"{found['images']:,}{size}"),
        ("predict", f"on {where}, units of {found['unit_rows']}: {found['predict_per_actor']:.1f} images/s each"),
        ("decode", f"{found['decode_tasks']} tasks at once: {found['decode_per_core']:.1f} images/s on one core"),
        (
            "in flight",
            f"{found['units_in_flight']} units a process, at most {found['bytes_in_flight'] >> 20:,} MB of pixels; "
            f"the object store has {found['object_store_bytes'] >> 20:,} MB",
        ),
        ("expected", f"{found['rate']:.1f} images/s, {format_duration(found['seconds'])} and the start"),
        ("held back by", found["bottleneck"]),
    ]
    if found["skipped"]:
        rows.insert(1, ("other files skipped", format_counts(found["skipped"])))
    if found["cpu_cores_per_gpu"] is not None:
        rows.append(("CPU cores per GPU", f"{found['cpu_cores_per_gpu']:.1f}"))
    if found["cost_per_million"] is not None:
        rows.append(("cost", f"{found['cost_per_million']:.2f} per million images"))
    rows.append(("setting", f"{InferenceSettings(**found['parity']['setting'])}: {found['parity']['reason']}"))
    return facts_table(rows)


def status_table(status: Mapping[str, Any]) -> Table:
    """How far a run is, and who works on it."""
    state = "finished" if status["finished"] else "running" if status["held"] else "not running"
    rows = [
        ("state", f"{state}, {status['starts']} start(s), last by {status['holder']}"),
        ("rows", f"{status['rows']:,} of {status['rows_planned']:,}, {status['to_go']:,} to go"),
        ("errors", format_counts(status["errors"])),
    ]
    if status["removed"]:
        rows.append(("gone from the source", f"{status['removed']:,}"))
    left = f", {format_duration(status['seconds_left'])} left" if status["held"] and status["seconds_left"] else ""
    rows.append(("rate", f"{status['rate']:.1f} images/s{left}"))
    if status["held"] and status["workers_planned"]:
        rows.append(("predicting", f"{status['workers']} of {status['workers_planned']} processes lately"))
        rows += _describe_bottleneck(status)
    if status["held"]:
        rows += [
            ("nodes" if not number else "", _describe_node(node))
            for number, node in enumerate(_idlest_nodes(status["nodes"]))
        ]
    return facts_table(rows, title=status["output"])


def _idlest_nodes(nodes: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that have least to do, if there are several."""
    ordered = sorted(nodes, key=lambda node: (node["predicting"] > 0, -(node["idle_share"] or 0), node["host"]))
    return ordered[:_MOST_NODES] if len(nodes) > 1 else []


def _describe_node(node: Mapping[str, Any]) -> str:
    has = f"{node['cpus']:g} CPUs" + (f", {node['gpus']:g} GPUs" if node["gpus"] else "")
    if not node["predicting"]:
        return f"{node['host']} ({node['address']}): {has}, predicts nothing"
    idle = "" if node["idle_share"] is None else f", idle {node['idle_share']:.0%}"
    return f"{node['host']} ({node['address']}): {has}, {node['predicting']} predicting, {node['rows']:,} rows{idle}"


def _describe_bottleneck(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Which stage a run waits for, and how much of their time the processes that predict have nothing to do."""
    shares, idle = found["busy_shares"], found["idle_shares"]
    rows = []
    if shares:
        held_back = max(shares, key=lambda stage: shares[stage])
        at_work = ", ".join(f"{stage} {share:.0%}" for stage, share in shares.items())
        rows.append(("held back by", f"{held_back} (at work since the first commit: {at_work})"))
    if idle:
        each = f"{min(idle):.0%}" if len(idle) == 1 else f"{min(idle):.0%} to {max(idle):.0%} of {len(idle)} processes"
        rows.append(("predicting idled", each))
    return rows


def _describe_pace(seconds: float, rate: float) -> str:
    return f"{format_duration(seconds)}, {rate:.1f} images/s"


def _relative_to_cwd(uri: str) -> str:
    """A path below the working folder without it; everything else as it is."""
    return uri.removeprefix(os.path.join(os.getcwd(), ""))


def summary_table(summary: Mapping[str, Any]) -> Table:
    """The short table at the end of a run."""
    rows = [("images", f"{summary['rows']:,}"), ("errors", format_counts(summary["errors"]))]
    rows += [("", f"{_relative_to_cwd(failed[IMAGE_URI])}: {failed[ERROR_MESSAGE]}") for failed in summary["failed"]]
    if summary["skipped"]:
        rows.append(("other files skipped", format_counts(summary["skipped"])))
    if summary["unreadable"]:
        rows.append(("not readable", ", ".join(summary["unreadable"][:5])))
    if summary["rows_this_start"]:
        if summary.get("command_seconds"):  # runs of earlier versions do not tell
            rows.append(("the whole command", _describe_pace(summary["command_seconds"], summary["command_rate"])))
        rows.append(("since Ray was ready", _describe_pace(summary["seconds"], summary["rate"])))
        stages = (f"{name} {seconds:.1f} s" for name, seconds in summary["stage_seconds"].items())
        rows.append(("time by stage", ", ".join(stages) + " (summed over workers)"))
        rows += _describe_bottleneck(summary)
    rows += [(f"{alias}: most often", format_counts(labels)) for alias, labels in summary["top_labels"].items()]
    rows.append(("predictions", summary["output"]))
    return facts_table(rows)
