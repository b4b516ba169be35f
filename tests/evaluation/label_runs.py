"""A run of a classifier with made-up answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from tests.samples import block, planned, spec, started


def classifier(categories: Sequence[str | None], **options: Any) -> ModelSpec:
    return replace(spec(**options), categories=tuple(categories))


def label_columns(
    model: ModelSpec, scores: npt.NDArray[np.floating[Any]], failed: Sequence[int] = ()
) -> dict[str, list[Any]]:
    """Columns of a model for (images, categories) scores, null where an image failed."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, : model.top_k]
    names = np.array(model.categories, object)
    best = np.take_along_axis(scores, order, axis=1)
    columns = {
        "label": names[order[:, 0]].tolist(),
        "label_id": order[:, 0].tolist(),
        "score": best[:, 0].tolist(),
        "top_labels": names[order].tolist(),
        "top_label_ids": order.tolist(),
        "top_scores": best.tolist(),
    }
    return {
        f"{model.alias}_{name}": [None if row in failed else value for row, value in enumerate(values)]
        for name, values in columns.items()
    }


def label_run(
    folder: Path,
    model: ModelSpec,
    scores: npt.NDArray[np.floating[Any]],
    *,
    failed: Sequence[int] = (),
    uris: Sequence[str] | None = None,
    **columns: Any,
) -> str:
    """Commit the answers of a classifier; returns the output."""
    count = len(scores)
    store, _ = planned(folder, count, model)
    log = started(store, count)
    values = {
        "image_uri": [f"/photos/{row:04d}.jpg" for row in range(count)] if uris is None else list(uris),
        "content_sha256": [f"{row:064x}" for row in range(count)],
        **label_columns(model, scores, failed),
        **columns,
    }
    rows = block(0, count, model, failed=failed, **values)
    log.commit_files(write_data_files(WriteContext(store.root, log.epoch, rows_schema([model])), [rows]).files)
    return str(store.root)
