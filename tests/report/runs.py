"""Small runs over real pictures, with labels, boxes, masks and vectors that are made up."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from cvbatch.errors import RowError
from cvbatch.models.spec import rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.store import open_store
from cvbatch.planning.plan import make_plan
from cvbatch.results.committed import OpenedOutput, open_output
from cvbatch.results.planned_images import PlannedImages
from cvbatch.sources import open_source
from cvbatch.storage.location import Location
from cvbatch.tasks.masks import encode_mask
from tests.samples import block, job, spec, started

NASTY = ("cat", "__proto__", "</script><b>", "dog")
TAGS = spec("tags", "classification", categories=NASTY, top_k=2)
BOXES = spec("boxes", "detection", categories=NASTY, masks=True)
VECTORS = spec("vectors", "embedding", dimension=40, categories=())
MODELS = (TAGS, BOXES, VECTORS)
SIZE = (64, 48)
MESSAGE = "it says </script><script>alert(1)</script>"
NASTY_NAME = '"><img src=x onerror=alert(1)>.jpg'
BYTES_NAME = b"caf\xe9.jpg"


@dataclass(frozen=True)
class SmallRun:
    """A run with its files; `files` and all columns are in the order of row ids."""

    opened: OpenedOutput
    root: str
    files: list[str]
    hashes: list[str]
    output: str


def save_photo(path: bytes | str, colour: int, *, month: int | None = None, orientation: int = 1) -> None:
    """A picture of noise that is unlike all others, so that no two have the same bytes."""
    pixels = np.random.default_rng(colour).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    exif = Image.Exif()
    if month is not None:
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = f"2024:{month:02d}:03 10:00:00"
    exif[ExifTags.Base.Orientation] = orientation
    with open(path, "wb") as file:
        Image.fromarray(pixels).save(file, "JPEG", exif=exif)


def photo_folder(tmp_path: Path, names: Sequence[bytes], seed: int = 0, **options: Any) -> str:
    """A folder of pictures; names may have folders in them."""
    root = os.fsencode(tmp_path / "photos")
    for number, name in enumerate(names):
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        save_photo(path, seed + number, month=1 + number % 3, **options)
    return os.fsdecode(root)


def small_run(
    tmp_path: Path,
    names: Sequence[bytes],
    *,
    failed: Mapping[int, RowError] | None = None,
    rows: int | None = None,
    output: str = "out",
    vectors: Any = None,
    orientation: int = 1,
    seed: int = 0,
    source: Mapping[str, Any] | None = None,
    place: Location | None = None,
) -> SmallRun:
    """Plan a folder of pictures, and commit rows for the first of them.

    Args:
        tmp_path: Where all of it is.
        names: Of the pictures.
        failed: Errors by row.
        rows: How many are committed; None for all of them.
        output: Name of the output.
        orientation: Of the pictures, as in Exif.
        seed: Other seeds give other pictures.
        vectors: Vectors of the images, (images, 40); None for some that are unlike each other.
        source: The same pictures elsewhere, as the section `source` of a job; None for the folder.
        place: Of the output elsewhere; None for a folder.
    """
    root = (
        tmp_path / "photos"
        if (tmp_path / "photos").exists()
        else Path(photo_folder(tmp_path, names, seed, orientation=orientation))
    )
    store, count = open_store(place or str(tmp_path / output)), len(names)
    store.check_writable()
    asked = job(root, store.root, source=dict(source or {}))
    make_plan(store, asked, list(MODELS), open_source(asked.source))
    log, errors, done = started(store, count), failed or {}, count if rows is None else rows
    place = place or Location(store.root)
    contents, uris = read_plan(place, count)
    columns = {**answer_columns(count, vectors), "image_uri": uris}
    columns["content_sha256"] = [hashlib.sha256(data).hexdigest() for data in contents]
    columns |= {"image_bytes": [len(data) for data in contents], "format": ["jpeg"] * count}
    columns |= {"width": [SIZE[0]] * count, "height": [SIZE[1]] * count}
    parts = []
    for row in range(done):
        values = {
            name: [None if row in errors and "_" in name and name.split("_")[0] in ALIASES else column[row]]
            for name, column in columns.items()
        }
        parts.append(
            block(row, row + 1, *MODELS, failed=[row] if row in errors else [], error=errors.get(row, OTHER), **values)
        )
    context = WriteContext(place, log.epoch, rows_schema(MODELS))
    log.commit_files(write_data_files(context, parts).files)
    return SmallRun(open_output(place), str(root), uris, columns["content_sha256"], store.root)


ALIASES = {model.alias for model in MODELS}
OTHER = RowError("decode", "CorruptImage", MESSAGE, transient=False)


def read_plan(place: Location, count: int) -> tuple[list[bytes], list[str]]:
    """Bytes and URIs of all planned images, in the order of row ids."""
    images = PlannedImages(open_output(place))
    ids = np.arange(count)
    data = dict(images.iter_bytes(ids))
    uris = {row["row_id"]: row["image_uri"] for table in images.iter_rows(ids) for row in table.to_pylist()}
    return [data[row] for row in range(count)], [uris[row] for row in range(count)]  # type: ignore[misc]


def answer_columns(count: int, vectors: Any = None) -> dict[str, list[Any]]:
    """Row r has the class r % 4, the surer the later; an image of class 0 has two boxes, the others one."""
    classes = [row % 4 for row in range(count)]
    scores = [0.3 + 0.69 * row / max(count - 1, 1) for row in range(count)]
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[12:36, 16:48] = True
    boxes = [[[16, 12, 48, 36], [0, 0, 8, 8]][: 2 if kind == 0 else 1] for kind in classes]
    labels = [[kind, 3][: len(box)] for kind, box in zip(classes, boxes, strict=True)]
    if vectors is None:
        vectors = np.eye(count, 40)
    return {
        "tags_label": [NASTY[kind] for kind in classes],
        "tags_label_id": classes,
        "tags_score": scores,
        "tags_top_labels": [[NASTY[kind], NASTY[(kind + 1) % 4]] for kind in classes],
        "tags_top_label_ids": [[kind, (kind + 1) % 4] for kind in classes],
        "tags_top_scores": [[score, 1 - score] for score in scores],
        "boxes_boxes": boxes,
        "boxes_labels": [[NASTY[kind] for kind in ids] for ids in labels],
        "boxes_label_ids": labels,
        "boxes_scores": [[score, score / 2][: len(box)] for score, box in zip(scores, boxes, strict=True)],
        "boxes_masks": [[encode_mask(mask)] * len(box) for box in boxes],
        "vectors_vector": [list(map(float, vector)) for vector in vectors],
    }
