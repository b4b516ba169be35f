"""Summary and status of a run as plain data, for the tables and for `--json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads

from cvbatch.errors import LIST
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.lease import describe_holder, is_lease_held, last_heartbeat
from cvbatch.output.log_records import RunState
from cvbatch.output.manifest import is_finished
from cvbatch.planning.plan import load_plan, open_run
from cvbatch.results.predictions import open_dataset
from cvbatch.runs.run_record import load_record
from cvbatch.schema import ERROR, ERROR_MESSAGE, ERROR_STAGE, ERROR_TYPE, IMAGE_URI, ROW_ID, STATUS
from cvbatch.storage.location import Location
from cvbatch.tasks import TASKS

_MAX_FAILED_NAMED: Final = 10
_MAX_TOP_LABELS: Final = 5
_LOST_EXIT_CODE: Final = 3
_MAX_COUNTED_ROWS: Final = 5_000_000
"""Labels of larger runs are not counted, because that would take too long."""


def summarize_run(output: Location | str, state: RunState, command_seconds: float = 0.0) -> dict[str, Any]:
    """Summarize a run at the end of an attempt.

    Args:
        output: The output location.
        state: State of the commit log.
        command_seconds: Seconds since the command started, 0 if unknown; `seconds` counts from when Ray was ready.

    Returns:
        Plain data: counts, the first failed images by name, the most frequent labels of each model, and
        the statistics of this attempt from the run record.
    """
    store, plan = open_run(output)
    record = load_record(store)
    dataset = open_dataset(output)
    rows, seconds = record.get("rows_this_start", 0), record.get("seconds", 0.0)
    return {
        "output": str(output),
        "rows": len(state.accepted),
        "rows_planned": state.planned,
        "ok": len(state.accepted) - state.errors.total(),
        "errors": dict((+state.errors).most_common()),
        "failed": _first_failed_images(dataset) if state.errors.total() else [],
        "finished": state.is_final,
        "rows_this_start": rows,
        "seconds": seconds,
        "rate": rows / seconds if seconds else 0.0,
        "command_seconds": command_seconds,
        "command_rate": rows / command_seconds if command_seconds else 0.0,
        "stage_seconds": record.get("stage_seconds", {}),
        "busy_shares": record.get("busy_shares", {}),
        "idle_shares": record.get("idle_shares", []),
        "skipped": record.get("skipped", {}),
        "unreadable": record.get("unreadable", []),
        "unlisted": _count_unlisted(dataset, state) if state.errors.total() else 0,
        "top_labels": {
            model.alias: _most_frequent_labels(dataset, f"{model.alias}_{column}")
            for model in plan.models
            if (column := TASKS[model.task].label_column) is not None and state.planned <= _MAX_COUNTED_ROWS
        },
    }


def exit_code_of_summary(summary: Mapping[str, Any], *, strict: bool) -> int:
    """Exit code of a finished run.

    Args:
        summary: From `summarize_run`.
        strict: Whether every image must have predictions.

    Returns:
        3 if a folder, an archive or a table could not be listed, or with `strict` if anything failed; else 0.
    """
    has_lost_images = summary["unlisted"] or (strict and (summary["errors"] or summary["unreadable"]))
    return _LOST_EXIT_CODE if has_lost_images else 0


def run_status(output: Location | str, log: CommitLog) -> dict[str, Any]:
    """Status of a run, from its log and heartbeat alone.

    Args:
        output: The output location.
        log: Its commit log.

    Returns:
        Plain data; `rate` is images per second in the last minutes before the newest record, None if the last attempt
        has finished the run without computing rows, as where only models were dropped.
    """
    state, heartbeat = log.state, last_heartbeat(log.store, log.state)
    done = len(state.accepted)
    rate = _recent_rate(state) or (None if state.is_final else 0.0)
    return {
        "output": str(output),
        "rows_planned": state.planned,
        "rows": done,
        "to_go": state.remaining_rows,
        "removed": len(state.removed),
        "ok": done - state.errors.total(),
        "errors": dict((+state.errors).most_common()),
        "finished": is_finished(log.store, state),
        "starts": len(state.opened),
        "holder": describe_holder(state),
        "held": is_lease_held(log.store, state),
        "workers": heartbeat.get("workers"),
        "workers_planned": heartbeat.get("workers_planned"),
        "busy_shares": heartbeat.get("busy_shares", {}),
        "idle_shares": heartbeat.get("idle_shares", []),
        "nodes": heartbeat.get("nodes", []),
        "rate": rate,
        "seconds_left": state.remaining_rows / rate if rate else None,
        "earlier_models": _describe_earlier_models(log),
    }


def _describe_earlier_models(log: CommitLog) -> list[dict[str, Any]]:
    """Models that the run had before its models changed, oldest first, by alias; `until` in ISO 8601."""
    plan = load_plan(log.store) if log.state.plan_file is not None else None
    return [
        {
            "models": {model["alias"]: model["name"] for model in earlier["models"]},
            "until": datetime.fromtimestamp(earlier["until"], UTC).isoformat(timespec="seconds"),
        }
        for earlier in (plan.earlier_models if plan is not None else ())
    ]


def _recent_rate(state: RunState) -> float:
    """Images per second between the recent commits of the last attempt; with one commit, since the attempt started."""
    if not state.opened:
        return 0.0
    opened_at = state.opened[-1]
    commits = [(committed_at, rows) for committed_at, rows in state.recent if committed_at >= opened_at]
    if len(commits) > 1:
        return sum(rows for _, rows in commits[1:]) / max(1e-3, commits[-1][0] - commits[0][0])
    return commits[0][1] / max(1e-3, commits[0][0] - opened_at) if commits else 0.0


def _first_failed_images(dataset: pads.Dataset) -> list[dict[str, Any]]:
    columns = [ROW_ID, IMAGE_URI, ERROR_STAGE, ERROR_TYPE, ERROR_MESSAGE]
    table = dataset.scanner(columns=columns, filter=pads.field(STATUS) == ERROR).head(_MAX_FAILED_NAMED)
    rows: list[dict[str, Any]] = table.sort_by(ROW_ID).to_pylist()
    return rows


def _count_unlisted(dataset: pads.Dataset, state: RunState) -> int:
    """Number of rows for folders and containers that could not be listed, without those that were removed."""
    rows = dataset.to_table(columns=[ROW_ID], filter=pads.field(ERROR_STAGE) == LIST)[ROW_ID].to_numpy()
    return int((~state.removed.contains_rows(rows)).sum())


def _most_frequent_labels(dataset: pads.Dataset, column: str) -> dict[str, int]:
    counter: Counter[str] = Counter()
    for batch in dataset.scanner(columns=[column]).to_batches():
        values = batch.column(0)
        labels = pc.list_flatten(values) if pa.types.is_list(values.type) else values
        counts = pc.value_counts(labels.drop_null())
        counter.update(dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)))
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:_MAX_TOP_LABELS])
