"""The run record `_cvbatch/run.json`: what ran where, how, and how long each stage took."""

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
_RUN: Final = RecordFormat("run record", dict[str, Any])
_ACTIVE_SECONDS: Final = 120.0


@dataclass(slots=True)
class WorkerRecord:
    """What one predicting process has done."""

    seen_first: float
    seen_last: float = 0.0
    rows: int = 0
    seconds: float = 0.0
    """Time in which it predicted."""
    seconds_before: float = 0.0
    """Of that, what was spent on its first delivery: that began before the process was seen."""

    @property
    def idle_share(self) -> float | None:
        """How much of the time between its first delivery and its last one it had nothing to predict."""
        elapsed = self.seen_last - self.seen_first
        return max(0.0, 1 - (self.seconds - self.seconds_before) / elapsed) if elapsed > 0 else None


@dataclass(slots=True)
class RunRecord:
    """What one start of a run sees; kept in memory while it works."""

    clock: Callable[[], float] = time.time
    """Seconds since 1970."""
    started_at: float = field(init=False)
    first_commit_at: float | None = None
    rows: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    listing: ListingReport | None = None
    """What the source held besides images, where this start has listed it again."""
    changed: int = 0
    """Images that are other versions than were planned."""
    stage_seconds: Counter[str] = field(default_factory=Counter)
    """Summed over all workers."""

    _before: Counter[str] = field(default_factory=Counter)
    """Of `stage_seconds`, what was spent up to the first commit."""
    errors: Counter[str] = field(default_factory=Counter)
    """Rows of this start by `error_type`."""
    workers: dict[str, WorkerRecord] = field(default_factory=dict)
    """Predicting processes, by what they say of themselves."""

    def __post_init__(self) -> None:
        self.started_at = self.clock()

    def add_result(self, written: Sequence[WriteResult], rows: int) -> None:
        """Take in written files, of which so many rows were accepted."""
        now = self.clock()
        if self.first_commit_at is None:
            self.first_commit_at = now
            self._before.update(sum((Counter(_stage_seconds_of(each)) for each in written), Counter()))
        self.rows += rows
        for each in written:
            self.bytes_read += each.image_bytes
            self.bytes_written += sum(file.size for file in each.files)
            self.changed += int(each.measures.get(CHANGED, 0))
            self.stage_seconds.update(_stage_seconds_of(each))
            for file in each.files:
                self.errors.update(file.errors)
            for name, work in each.workers.items():
                worker = self.workers.setdefault(name, WorkerRecord(seen_first=now, seconds_before=work["seconds"]))
                worker.rows += work["rows"]
                worker.seconds += work["seconds"]
                worker.seen_last = now

    def _listing_facts(self, store: Store, plan: Plan) -> dict[str, Any]:
        """What the newest listing met, whichever start it was."""
        if self.listing is not None:
            return {"skipped": dict(self.listing.skipped), "unreadable": self.listing.unreadable_notes}
        found = {"skipped": dict(plan.skipped), "unreadable": list(plan.unreadable)}
        before = load_record(store)
        return {name: before.get(name, value) for name, value in found.items()}

    def busy_shares(self, pools: ResourcePlan) -> dict[str, float]:
        """How much of the time since the first commit each stage was at work; the highest held the run back."""
        now = self.clock()
        elapsed = now - (self.first_commit_at or now)
        slots = {"decode": pools.decode_tasks, "predict": pools.num_actors}
        if elapsed <= 0:
            return {}
        return {
            stage: min(1.0, (self.stage_seconds[stage] - self._before[stage]) / (elapsed * count))
            for stage, count in slots.items()
        }

    def idle_shares(self) -> list[float]:
        """How much each predicting process idled, as far as that is known."""
        shares = (worker.idle_share for worker in list(self.workers.values()))
        return [share for share in shares if share is not None]

    def workers_by_host(self) -> dict[str, list[WorkerRecord]]:
        """The predicting processes of each machine, by its name."""
        found: dict[str, list[WorkerRecord]] = {}
        for name, worker in list(self.workers.items()):
            found.setdefault(json.loads(name).get("host", ""), []).append(worker)
        return found

    def active_workers(self) -> int:
        """How many processes have delivered lately."""
        return sum(self.clock() - worker.seen_last < _ACTIVE_SECONDS for worker in list(self.workers.values()))

    def save_record(
        self,
        store: Store,
        plan: Plan,
        state: RunState,
        cluster: Cluster | None,
        pools: ResourcePlan | None,
        certificate: TuningResult | None,
        stopped_by: BaseException | None,
    ) -> None:
        """Write the record; that of the newest start stands."""
        content = {
            "job": plan.job,
            "models": [{**model.to_json(), "categories": len(model.categories)} for model in plan.models],
            "versions": package_versions(),
            "host": platform.node(),
            "command": sys.argv,
            "cluster": cluster and cluster.to_json(),
            "pools": pools and asdict(pools),
            "precision": pools and pools.setting.precision,
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
            "busy_shares": self.busy_shares(pools) if pools else {},
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
        with contextlib.suppress(CvbatchError):  # on a full disk that is the smaller of two problems
            store.put_object(RUN, json.dumps(_RUN.to_json(content), indent=1).encode())


def _stage_seconds_of(written: WriteResult) -> dict[str, float]:
    return {name: value for name, value in written.measures.items() if name != CHANGED}


def model_files_of_last_attempt(store: Store) -> dict[str, Mapping[str, str]]:
    """By alias, the files of each model as the last start saw them."""
    return {model["alias"]: model.get("files", {}) for model in load_record(store).get("models", [])}


def load_record(store: Store) -> Mapping[str, Any]:
    """Read the run record; empty if there is none yet."""
    try:
        return _RUN.decode_record(store.read_object(RUN), f"{store.root}/{RUN}")
    except FileNotFoundError:
        return {}
