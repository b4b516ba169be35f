"""A small run with boxes, segments and vectors, in two files, for queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.commit_log import CommitLog
from cvbatch.output.data_files import WriteContext, write_data_files
from tests.samples import block, planned, spec, started

BOXES = spec("boxes", "detection")
REGIONS = spec("regions", "segmentation")
VECTORS = spec("vectors", "embedding", dimension=2, dtype="float16")
MODELS = (BOXES, REGIONS, VECTORS)


def run_with_boxes(tmp_path: Path) -> CommitLog:
    """Rows 0 to 2 have boxes a, b; none; an error. Row 3, in another file, has box b and region b."""
    store, _ = planned(tmp_path, 4, *MODELS)
    log = started(store, 4)
    commit_block(
        log,
        0,
        3,
        boxes_boxes=[[[0, 1, 2, 3], [4, 5, 6, 7]], [], None],
        boxes_labels=[["a", "b"], [], None],
        boxes_label_ids=[[0, 2], [], None],
        boxes_scores=[[0.9, 0.5], [], None],
        regions_labels=[["a"], [], None],
        regions_label_ids=[[0], [], None],
        regions_areas=[[0.25], [], None],
        regions_masks=[[b"m0"], [], None],
        vectors_vector=[[1, 0], [0.5, 0.5], None],
        width=[8, 8, None],
    )
    commit_block(
        log,
        3,
        4,
        boxes_boxes=[[[1, 1, 2, 2]]],
        boxes_labels=[["b"]],
        boxes_label_ids=[[2]],
        boxes_scores=[[0.25]],
        regions_labels=[["b"]],
        regions_label_ids=[[2]],
        regions_areas=[[0.5]],
        regions_masks=[[b"m1"]],
        vectors_vector=[[0, 1]],
        width=[16],
    )
    return log


def commit_block(log: CommitLog, low: int, high: int, models: Sequence[ModelSpec] = MODELS, **columns: Any) -> None:
    """Commit some rows; those without labels have failed."""
    failed = [row for row in range(low, high) if columns["boxes_labels"][row - low] is None]
    table = block(low, high, *models, failed=failed, **columns)
    log.commit_files(write_data_files(WriteContext(log.store.root, log.epoch, rows_schema(models)), [table]).files)
