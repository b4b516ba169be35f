"""Small finished runs without Ray, with boxes, masks, keypoints, segments and labels whose answers are known."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.manifest import finish_run
from cvbatch.tasks.masks import encode_mask
from tests.samples import block, planned, spec, started

NAMES = ("__background__", "dog", None, "Größe, breit", '"犬"', "cat")
"""Names of label ids: one is never emitted, and some are not ASCII, or have commas or quotes."""
WIDTH, HEIGHT = 40, 30
BOXES = replace(spec("boxes", "detection"), categories=NAMES)
MASKS = replace(BOXES, masks=True)
POINTS = replace(BOXES, keypoints=True)
SEGMENTS = replace(spec("regions", "segmentation"), categories=NAMES)
LABELS = replace(spec("kinds", "classification"), categories=NAMES)

Mask = npt.NDArray[np.bool_]
Columns = Mapping[str, Sequence[Any]]
"""Columns of a model by short name, one value per image."""


def make_run(
    tmp_path: Path,
    *answers: tuple[ModelSpec, Columns],
    names: Sequence[str] | None = None,
    failed: Collection[int] = (),
    sizes: Sequence[tuple[int, int]] | None = None,
    finished: bool = True,
    images: Mapping[str, Sequence[Any]] | None = None,
) -> str:
    """Write a run into `tmp_path / "out"`, and return its location.

    Args:
        tmp_path: A folder.
        answers: Models with their columns.
        names: Paths of the images below the source `tmp_path / "photos"`; by default `0.jpg` and so on.
        failed: Rows with an error; their answers are None.
        sizes: Width and height of each image; by default 40 × 30.
        finished: Whether the run is finished; else one planned image more has no row.
        images: Further columns of the images.
    """
    models = [model for model, _ in answers]
    count = len(next(iter(answers[0][1].values())))
    store, _ = planned(tmp_path, count if finished else count + 1, *models)
    log = started(store, count if finished else count + 1)
    names = names or [f"{row}.jpg" for row in range(count)]
    sizes = sizes or [(WIDTH, HEIGHT)] * count
    columns = {f"{model.alias}_{name}": values for model, table in answers for name, values in table.items()}
    columns["image_uri"] = [f"{tmp_path}/photos/{name}" for name in names]
    columns["width"] = [None if row in failed else size[0] for row, size in enumerate(sizes)]
    columns["height"] = [None if row in failed else size[1] for row, size in enumerate(sizes)]
    rows = block(0, count, *models, failed=failed, **columns, **(images or {}))
    log.commit_files(write_data_files(WriteContext(store.root, log.epoch, rows_schema(models)), [rows]).files)
    if finished:
        finish_run(log)
    return str(store.root)


def box_columns(images: Sequence[Sequence[tuple[int, float, Sequence[float]]] | None]) -> Columns:
    """Columns of boxes.

    Args:
        images: For each image its boxes as label id, score and x_min, y_min, x_max, y_max; None if it failed.
    """

    def column(pick: Any) -> list[Any]:
        return [None if boxes is None else [pick(box) for box in boxes] for boxes in images]

    return {
        "label_ids": column(lambda box: box[0]),
        "labels": column(lambda box: NAMES[box[0]]),
        "scores": column(lambda box: box[1]),
        "boxes": column(lambda box: list(box[2])),
    }


def mask_columns(images: Sequence[Sequence[tuple[int, float, Mask]] | None]) -> Columns:
    """Columns of boxes with masks; the boxes are those around the masks, or a pixel if a mask is empty."""
    framed = [
        None if masks is None else [(label, score, frame_mask(mask)) for label, score, mask in masks]
        for masks in images
    ]
    encoded = [None if masks is None else [encode_mask(mask) for _, _, mask in masks] for masks in images]
    return {**box_columns(framed), "masks": encoded}


def segment_columns(images: Sequence[Sequence[tuple[int, Mask]] | None]) -> Columns:
    """Columns of segments: a label id and a mask for each class in an image."""

    def column(pick: Any) -> list[Any]:
        return [None if segments is None else [pick(*segment) for segment in segments] for segments in images]

    return {
        "label_ids": column(lambda label, _: label),
        "labels": column(lambda label, _: NAMES[label]),
        "areas": column(lambda _, mask: float(mask.mean())),
        "masks": column(lambda _, mask: encode_mask(mask)),
    }


def frame_mask(mask: Mask) -> tuple[int, int, int, int]:
    """The box around a mask: x_min, y_min, x_max, y_max at the edges of its pixels."""
    if not mask.any():
        return 0, 0, 1, 1
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def random_mask(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Mask:
    """A ragged mask of several parts, with holes and with pixels that touch at their corners only."""
    noise = np.random.default_rng(seed).random((height, width))
    smooth = sum(np.roll(noise, shift, axis) for shift in (-1, 0, 1) for axis in (0, 1))
    mask: Mask = np.asfortranarray(np.asarray(smooth) > 3.2)
    return mask


def make_image_run(tmp_path: Path, *answers: tuple[ModelSpec, Columns], failed: Collection[int] = ()) -> str:
    """Like `make_run`, of images that can be read: JPEG files of 40 × 30 pixels, each of one grey."""
    count = len(next(iter(answers[0][1].values())))
    contents = [jpeg_of(20 * row) for row in range(count)]
    names = [f"{row:04d}.jpg" for row in range(count)]
    columns = {
        "content_sha256": [hashlib.sha256(content).hexdigest() for content in contents],
        "format": ["jpeg"] * count,
        "image_bytes": [len(content) for content in contents],
    }
    output = make_run(tmp_path, *answers, names=names, failed=failed, images=columns)
    for name, content in zip(names, contents, strict=True):
        (tmp_path / "photos" / name).write_bytes(content)
    return output


def jpeg_of(grey: int) -> bytes:
    """A JPEG of one grey."""
    with io.BytesIO() as file:
        Image.new("RGB", (WIDTH, HEIGHT), (grey, grey, grey)).save(file, "JPEG")
        return file.getvalue()
