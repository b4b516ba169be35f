"""The run record `_cvbatch/run.json`: resources, settings, and the time that each stage took."""

from __future__ import annotations

import contextlib
import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from cvbatch.engine.nodes import Cluster
from cvbatch.engine.resource_plan import ResourcePlan
from cvbatch.errors import CvbatchError
from cvbatch.output.data_files import CHANGED, WriteResult
from cvbatch.output.log_records import RunState
from cvbatch.output.store import Store
from cvbatch.planning.plan import Plan
from cvbatch.sources.entries import ListingReport
from cvbatch.system.formats import RecordFormat
from cvbatch.system.versions import package_versions
from cvbatch.tuning.certificate import TuningResult

RUN = "_cvbatch/run.json"
_RUN: Final = RecordFormat("run record", dict[str, Any], minor=1)
_ACTIVE_SECONDS: Final = 120.0


@dataclass(slots=True)
class WorkerRecord:
    """Work of one predict process."""

    seen_first: float
    seen_last: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    """Time spent predicting."""
    seconds_before: float = 0.0
    """Part of `seconds` spent on the first result, which started before `seen_first`."""

    @property
    def idle_share(self) -> float | None:
        """Share of the time between its first and its last result in which it did not predict; None if unknown."""
        elapsed = self.seen_last - self.seen_first
        return max(0.0, 1 - (self.seconds - self.seconds_before) / elapsed) if elapsed > 0 else None


@dataclass(slots=True)
class RunRecord:
    """Statistics of one attempt, in memory while it runs."""

    clock: Callable[[], float] = time.time
    """Seconds since 1970."""
    started_at: float = field(init=False)
    first_commit_at: float | None = None
    rows: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    listing: ListingReport | None = None
    """Skipped and unreadable files, if this attempt listed the source again."""
    changed: int = 0
    """Images whose file changed after it was planned."""
    stage_seconds: Counter[str] = field(default_factory=Counter)
    """Busy seconds of each stage, summed over all workers."""

    _seconds_before_first_commit: Counter[str] = field(default_factory=Counter)
    """Part of `stage_seconds` up to the first commit."""
    errors: Counter[str] = field(default_factory=Counter)
    """Error rows of this attempt by `error_type`."""
    workers: dict[str, WorkerRecord] = field(default_factory=dict)
    """Predict processes by their description (JSON)."""

    def __post_init__(self) -> None:
        self.started_at = self.clock()

    def add_result(self, results: Sequence[WriteResult], rows: int) -> None:
        """Add results of a commit.

        Args:
            results: Written files with their measures.
            rows: Number of their rows that the log accepted.
        """
        now = self.clock()
        if self.first_commit_at is None:
            self.first_commit_at = now
            for result in results:
                self._seconds_before_first_commit.update(_stage_seconds_of(result))
        self.rows += rows
        for result in results:
            self.bytes_read += result.image_bytes
            self.bytes_written += sum(file.size for file in result.files)
            self.changed += int(result.measures.get(CHANGED, 0))
            self.stage_seconds.update(_stage_seconds_of(result))
            for file in result.files:
                self.errors.update(file.errors)
            for name, work in result.workers.items():
                worker = self.workers.setdefault(name, WorkerRecord(seen_first=now, seconds_before=work["seconds"]))
                worker.rows += work["rows"]
                worker.seconds += work["seconds"]
                worker.seen_last = now

    def _listing_facts(self, store: Store, plan: Plan) -> dict[str, Any]:
        """Skipped and unreadable files of the newest listing, by this or an earlier attempt."""
        if self.listing is not None:
            return {"skipped": dict(self.listing.skipped), "unreadable": self.listing.unreadable_notes}
        facts_of_plan = {"skipped": dict(plan.skipped), "unreadable": list(plan.unreadable)}
        last_record = load_record(store)
        return {name: last_record.get(name, value) for name, value in facts_of_plan.items()}

    def busy_shares(self, resource_plan: ResourcePlan) -> dict[str, float]:
        """Busy share of each stage since the first commit; the stage with the highest share is the bottleneck."""
        now = self.clock()
        elapsed = now - (self.first_commit_at or now)
        workers = {"decode": resource_plan.decode_tasks, "predict": resource_plan.num_actors}
        if elapsed <= 0:
            return {}
        return {
            stage: min(
                1.0, (self.stage_seconds[stage] - self._seconds_before_first_commit[stage]) / (elapsed * worker_count)
            )
            for stage, worker_count in workers.items()
        }

    def idle_shares(self) -> list[float]:
        """Idle share of each predict process for which it is known."""
        shares = (worker.idle_share for worker in list(self.workers.values()))
        return [share for share in shares if share is not None]

    def workers_by_host(self) -> dict[str, list[WorkerRecord]]:
        """Predict processes by host name."""
        workers: dict[str, list[WorkerRecord]] = {}
        for name, worker in list(self.workers.items()):
            workers.setdefault(json.loads(name).get("host", ""), []).append(worker)
        return workers

    def active_workers(self) -> int:
        """Number of predict processes with a result in the last two minutes."""
        return sum(self.clock() - worker.seen_last < _ACTIVE_SECONDS for worker in list(self.workers.values()))

    def save_record(
        self,
        store: Store,
        plan: Plan,
        state: RunState,
        cluster: Cluster | None,
        resource_plan: ResourcePlan | None,
        certificate: TuningResult | None,
        stopped_by: BaseException | None,
    ) -> None:
        """Write the record; it replaces that of the last attempt."""
        content = {
            "job": plan.job,
            "models": [model.to_short_json() for model in plan.models],
            "versions": package_versions(),
            "host": platform.node(),
            "command": sys.argv,
            "cluster": cluster and cluster.to_json(),
            "pools": resource_plan and asdict(resource_plan),
            "precision": resource_plan and resource_plan.setting.precision,
            "parity": certificate and certificate.to_json(),
            "finished": state.is_final,
            "stopped_by": stopped_by
            and {
                "type": type(stopped_by).__name__,
                "message": str(stopped_by),
                "details": getattr(stopped_by, "details", ""),
            },
            "started_at": self.started_at,
            "seconds": self.clock() - self.started_at,
            "seconds_to_first_commit": self.first_commit_at and self.first_commit_at - self.started_at,
            "stage_seconds": dict(self.stage_seconds),
            "busy_shares": self.busy_shares(resource_plan) if resource_plan else {},
            "idle_shares": self.idle_shares(),
            "workers": [
                {**json.loads(name), **asdict(worker), "idle_share": worker.idle_share}
                for name, worker in self.workers.items()
            ],
            "rows_this_start": self.rows,
            "changed_since_planned": self.changed,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "rows_planned": state.planned,
            "rows_committed": len(state.accepted),
            "errors": dict(+state.errors),
            **self._listing_facts(store, plan),
        }
        with contextlib.suppress(CvbatchError):  # on a full disk the error that stopped the run matters more
            store_record(store, content)


def _stage_seconds_of(written: WriteResult) -> dict[str, float]:
    return {name: value for name, value in written.measures.items() if name != CHANGED}


def model_files_of_last_attempt(store: Store) -> dict[str, Mapping[str, str]]:
    """Files of each model as the last attempt saw them, by the model's alias."""
    return {model["alias"]: model.get("files", {}) for model in load_record(store).get("models", [])}


def store_record(store: Store, content: Mapping[str, Any]) -> None:
    """Write the run record; it replaces the last one."""
    store.put_object(RUN, json.dumps(_RUN.to_json(dict(content)), indent=1).encode())


def load_record(store: Store) -> Mapping[str, Any]:
    """Read the run record; empty if there is none yet."""
    try:
        return _RUN.decode_record(store.read_object(RUN), f"{store.root}/{RUN}")
    except FileNotFoundError:
        return {}
