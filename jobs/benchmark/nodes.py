"""Measures the cost of scheduling alone: a model that sleeps, on a logical cluster on one machine.

Usage: `python jobs/benchmark/nodes.py FOLDER NODES`.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path

# before ray is imported, which reads them once
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(16))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from scale import make_manifest

import cvbatch
from cvbatch.output.log_records import RunState

_HERE = Path(__file__).resolve().parent
_SECONDS = 0.02
_ROWS_PER_NODE = 2_000
_CPUS_PER_NODE = 4


class _CommitObserver:
    """Records the time and the number of rows of each commit."""

    def __init__(self) -> None:
        self.commits: list[tuple[float, int]] = []

    def on_phase(self, what: str) -> None:
        pass

    def on_planned(self, state: RunState) -> None:
        pass

    def on_committed(self, state: RunState) -> None:
        self.commits.append((time.monotonic(), len(state.accepted)))


def main() -> None:
    """Measure and print JSON."""
    from ray.cluster_utils import Cluster

    folder, nodes = Path(sys.argv[1]).resolve(), int(sys.argv[2])
    sys.path.insert(0, str(_HERE))
    rows = _ROWS_PER_NODE * nodes
    cluster = Cluster()
    for _ in range(nodes):
        cluster.add_node(num_cpus=_CPUS_PER_NODE, object_store_memory=300_000_000, include_dashboard=False)
    os.environ["RAY_ADDRESS"] = cluster.address
    observer = _CommitObserver()
    job = cvbatch.load_job(
        defaults={
            "source": {"uri": str(make_manifest(folder, rows))},
            "models": [{"model": "python:trivial:Sleeper", "options": {"seconds": _SECONDS}}],
            "compute": {"unit_rows": 50, "num_actors": nodes},
            "output": {"uri": str(folder / f"nodes-{nodes}-{time.time_ns()}")},
        }
    )
    cvbatch.run(job, observer, pythonpath=str(_HERE))
    cluster.shutdown()
    (first, before), (last, after) = observer.commits[1], observer.commits[-2]
    rate = (after - before) / (last - first)
    result = {"nodes": nodes, "rows": rows, "rate": rate, "efficiency": rate * _SECONDS / nodes}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
