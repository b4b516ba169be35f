"""Made-up embeddings, and runs that hold them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.log_records import DataFile
from cvbatch.output.store import LocalStore
from tests.samples import block, planned, spec, started

EMBEDDING_MODEL = spec("embedding", "embedding", dimension=8)


def embeddings(rows: int, dimension: int, *, groups: int, noise: float = 0.1, seed: int = 0) -> npt.NDArray[np.float32]:
    """Unit vectors around random centres with a common part, as networks give them."""
    rng = np.random.default_rng(seed)
    scales = 1 / np.sqrt(np.arange(1, dimension + 1))
    centres = rng.standard_normal((groups, dimension)) * scales + 0.05
    vectors = centres[rng.integers(0, groups, rows)] + noise * rng.standard_normal((rows, dimension)) * scales
    unit: npt.NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return unit


def write_vectors(log: CommitLog, low: int, vectors: Any, *, place: Any = None, **columns: Any) -> tuple[DataFile, ...]:
    """Write rows with these vectors; None is an image that failed."""
    high = low + len(vectors)
    failed = [low + index for index, vector in enumerate(vectors) if vector is None]
    values: dict[str, Any] = {
        "embedding_vector": [None if vector is None else np.asarray(vector).tolist() for vector in vectors],
        "content_sha256": [hashlib.sha256(bytes([row % 251, row // 251])).hexdigest() for row in range(low, high)],
        "width": [10] * len(vectors),
        "height": [10] * len(vectors),
        "image_bytes": [100] * len(vectors),
    }
    rows = block(low, high, EMBEDDING_MODEL, failed=failed, **{**values, **columns})
    context = WriteContext(place or log.store.root, log.epoch, rows_schema([EMBEDDING_MODEL]))
    return write_data_files(context, [rows]).files


def run_with_vectors(tmp_path: Path, vectors: Any, **columns: Any) -> LocalStore:
    """A run of one data file with these vectors."""
    store, _ = planned(tmp_path, len(vectors), EMBEDDING_MODEL)
    log = started(store, len(vectors))
    log.commit_files(write_vectors(log, 0, vectors, **columns))
    return store


def turned(degrees: float, model: ModelSpec = EMBEDDING_MODEL) -> list[float]:
    """A unit vector in a plane, at this angle."""
    vector = np.zeros(model.dimension or 2)
    vector[:2] = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return [float(value) for value in vector]
