"""The run record `_cvbatch/run.json`: what ran where, how, and how long each stage took."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cvbatch.compute.cluster import Cluster
from cvbatch.compute.sizing import Pools
from cvbatch.planning.plan import Plan
from cvbatch.versions import versions
from cvbatch.writing.files import Written
from cvbatch.writing.records import State
from cvbatch.writing.store import Store

RUN = "_cvbatch/run.json"


@dataclass(slots=True)
class Record:
    """What one start of a run sees; kept in memory while it works."""

    started_at: float = field(default_factory=time.time)
    first_commit_at: float | None = None
    rows: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    stage_seconds: Counter[str] = field(default_factory=Counter)
    """Summed over all workers."""

    def add(self, written: Written, rows: int) -> None:
        """Take in a written file, of which so many rows were accepted."""
        self.first_commit_at = self.first_commit_at or time.time()
        self.rows += rows
        self.bytes_read += written.image_bytes
        self.bytes_written += sum(file.size for file in written.files)
        self.stage_seconds.update(written.measures)

    def save(self, store: Store, plan: Plan, state: State, cluster: Cluster | None, pools: Pools | None) -> None:
        """Write the record; that of the newest start stands."""
        stopped_by = sys.exception()
        content = {
            "job": plan.job,
            "models": [{**model.to_json(), "categories": len(model.categories)} for model in plan.models],
            "versions": versions(),
            "host": platform.node(),
            "command": sys.argv,
            "cluster": cluster and asdict(cluster),
            "pools": pools and asdict(pools),
            "precision": pools and pools.precision,
            "parity": "not applicable" if all(model.random for model in plan.models) else "fp32 is the reference",
            "finished": state.final,
            "stopped_by": stopped_by
            and {
                "type": type(stopped_by).__name__,
                "message": str(stopped_by),
                "details": getattr(stopped_by, "details", ""),
            },
            "started_at": self.started_at,
            "seconds": time.time() - self.started_at,
            "seconds_to_first_commit": self.first_commit_at and self.first_commit_at - self.started_at,
            "stage_seconds": dict(self.stage_seconds),
            "rows_this_start": self.rows,
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "rows_planned": state.planned,
            "rows_committed": len(state.accepted),
            "errors": dict(+state.errors),
            "skipped": dict(plan.skipped),
            "unreadable": list(plan.unreadable),
        }
        store.put(RUN, json.dumps(content, indent=1).encode())


def load_record(store: Store) -> Mapping[str, Any]:
    """Read the run record; empty if there is none yet."""
    try:
        content: dict[str, Any] = json.loads(store.read(RUN))
    except FileNotFoundError:
        return {}
    return content
