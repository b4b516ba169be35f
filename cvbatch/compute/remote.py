"""Plain Ray tasks: probing models and writing files.

This module does not import ray.data, so that a fresh worker is ready a second sooner.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import pyarrow as pa
import ray

from cvbatch.models.registry import needs_probe
from cvbatch.models.spec import ModelSpec
from cvbatch.writing.files import WriteJob, Written, write_blocks

RETRIES: Final = 3
"""How often a task is tried again after its process died; Ray's own default is for ever."""


def probe_models(models: Sequence[ModelSpec]) -> tuple[ModelSpec, ...]:
    """Load the models that need it in a worker, so that the driver never imports torch."""
    probe = ray.remote(num_cpus=1, max_retries=0)(_probe)
    return tuple(ray.get([probe.remote(model) for model in models]))


class Writers:
    """Write tasks that are under way."""

    def __init__(self, job: WriteJob) -> None:
        self._job = ray.put(job)
        self._pending: list[ray.ObjectRef[Written]] = []
        # no CPU of their own: they are short, and must not queue behind decoding
        self._write = ray.remote(num_cpus=0, max_retries=RETRIES)(_write)

    def submit(self, bundles: Iterable[Any]) -> None:
        """Start writing the blocks of some bundles into one file."""
        references = [reference for bundle in bundles for reference in bundle.block_refs]
        self._pending.append(self._write.remote(self._job, *references))

    def finished(self, timeout: float | None = 0) -> list[Written]:
        """Return what was written meanwhile; None waits for everything."""
        if not self._pending:
            return []
        count = len(self._pending)
        done, self._pending = ray.wait(self._pending, num_returns=count, timeout=timeout)
        return ray.get(done)


def _probe(model: ModelSpec) -> ModelSpec:
    from cvbatch.models.predictor import probe  # torch stays in the worker

    return probe(model) if needs_probe(model) else model


def _write(job: WriteJob, *blocks: pa.Table) -> Written:
    return write_blocks(job, blocks)
