"""Workers in processes of this machine, without Ray: each with torch's process group, as Ray Train starts them."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvbatch.engine.training_workers import WorkerPlace, WorkerRequest


def work_in_processes(
    work: Callable[[WorkerPlace], Any],
    request: WorkerRequest,
    watch: Callable[[], None],
    ask_to_stop: Callable[[], None],
    report: Callable[[str], None],
) -> Any:
    """See `engine.training_workers.work_on_ray`."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, context.Pool(request.workers) as pool:
        calls = [(work, rank, request.workers, str(Path(folder) / "meeting")) for rank in range(request.workers)]
        return pool.starmap(_work, calls, chunksize=1)[0]


def _work(work: Callable[[WorkerPlace], Any], rank: int, workers: int, meeting: str) -> Any:
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers)
    try:
        return work(WorkerPlace(rank, workers, "cpu", 1))
    finally:
        distributed.destroy_process_group()
