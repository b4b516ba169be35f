"""The head of the page: what was run, when, where, how fast, what it cost, and whether the answer is whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cvbatch.inference.settings import InferenceSettings
from cvbatch.models.backends import backend_of
from cvbatch.models.spec import ModelSpec
from cvbatch.output.commit_log import CommitLog
from cvbatch.planning.moved import current_uris
from cvbatch.report.page_data import Fact, ModelCard, ReportHead
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.console import format_duration
from cvbatch.results.verify import VerifyReport, verify_output
from cvbatch.tuning.certificate import NOT_APPLICABLE

_HASH_DIGITS: Final = 12
_MOST_PROBLEMS: Final = 3
_HOUR: Final = 3600


def describe_run(opened: OpenedOutput, log: CommitLog, record: Mapping[str, Any], picture: str | None) -> ReportHead:
    """Describe a run.

    Args:
        opened: The run.
        log: Its commit log.
        record: Its run record; empty if there is none yet.
        picture: File below the page that comes first.
    """
    verdict = verify_output(opened.store, log)
    return ReportHead(
        title=opened.store.root.rstrip("/").rpartition("/")[2] or opened.store.root,
        sources=list(current_uris(opened.plan, log.state)),
        models=[_describe_model(model) for model in opened.plan.models],
        facts=_list_facts(opened, log, record),
        certificate=_describe_certificate(record.get("parity")),
        is_complete=verdict.is_proven,
        completeness=_describe_verdict(verdict),
        picture=picture,
    )


def _describe_model(model: ModelSpec) -> ModelCard:
    if backend_of(model).has_random_weights(model):
        weights = f"random, seed {model.seed}"
    else:
        digits = f", sha256 {model.weights_sha256[:_HASH_DIGITS]}…" if model.weights_sha256 else ""
        weights = (model.weights or "own file" if model.weights_path else model.weights or "own code") + digits
    return ModelCard(
        alias=model.alias,
        model=model.name,
        task=model.task,
        weights=weights,
        licence=model.licence or None,
        categories=sum(name is not None for name in model.categories),
    )


def _list_facts(opened: OpenedOutput, log: CommitLog, record: Mapping[str, Any]) -> list[Fact]:
    state = log.state
    done, errors = len(state.accepted), state.errors.total()
    facts = [
        Fact("output", opened.store.root),
        Fact("images", f"{done:,} of {state.planned:,}"),
        Fact("failed", f"{errors:,}"),
    ]
    if len(state.removed):
        facts.append(Fact("removed from the source", f"{len(state.removed):,}"))
    if state.opened:
        attempts = "1 attempt" if len(state.opened) == 1 else f"{len(state.opened)} attempts"
        facts.append(Fact("started", f"{_format_time(state.opened[0])}, {attempts}"))
    facts += _describe_last_attempt(record)
    facts.append(Fact("size", f"{sum(file.size for file in state.files.values()) / 1e6:,.1f} MB"))
    versions = record.get("versions", {})
    if "cvbatch" in versions:
        facts.append(Fact("cvbatch", str(versions["cvbatch"])))
    return facts


def _describe_last_attempt(record: Mapping[str, Any]) -> list[Fact]:
    """Where, how fast and for how much, as the last attempt has recorded it."""
    seconds, rows = record.get("seconds", 0.0), record.get("rows_this_start", 0)
    if not seconds or not rows:
        return []
    nodes = (record.get("cluster") or {}).get("nodes") or []
    facts = [
        Fact("ran on", _describe_place(record, nodes)),
        Fact("speed", f"{rows / seconds:,.1f} images/s: {rows:,} in {format_duration(seconds)}"),
    ]
    if record.get("bytes_read"):
        facts.append(Fact("read", f"{record['bytes_read'] / 1e6:,.1f} MB"))
    price = record.get("job", {}).get("compute", {}).get("price_per_node_hour")
    if price is not None:
        cost = price * max(len(nodes), 1) * seconds / _HOUR
        facts.append(Fact("cost", f"{cost:,.2f}: {cost / rows * 1e6:,.2f} for a million images"))
    return facts


def _describe_place(record: Mapping[str, Any], nodes: list[Any]) -> str:
    pools = record.get("pools") or {}
    processes, device = pools.get("num_actors"), pools.get("device")
    place = f"{len(nodes)} machines" if len(nodes) > 1 else record.get("host", "this machine")
    if not processes:
        return str(place)
    return f"{place}, {processes} {'process' if processes == 1 else 'processes'} on {device}"


def _describe_certificate(parity: Mapping[str, Any] | None) -> str | None:
    if not parity:
        return None
    setting, reason = InferenceSettings.from_json(parity["setting"]), str(parity["reason"])
    if NOT_APPLICABLE in reason or not parity.get("candidates"):
        return f"{setting}: {reason}"
    images = parity["candidates"][0]["images"]
    return f"{setting}: {reason}; compared with the reference on {images:,} images"


def _describe_verdict(verdict: VerifyReport) -> str:
    if verdict.is_proven:
        return f"Every one of the {verdict.planned:,} planned images has exactly one row, in {verdict.files:,} files."
    problems = [*verdict.problems, *(f"{path} belongs to no record" for path in verdict.strays)]
    more = len(problems) - _MOST_PROBLEMS
    named = "; ".join(problems[:_MOST_PROBLEMS]) + (f"; and {more:,} more" if more > 0 else "")
    return f"{verdict.committed:,} of {verdict.planned:,} planned images have a row: {named or 'not finished'}."


def _format_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
