"""Finished runs over real files, with boxes and masks that a test has chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cvbatch.config.job import Job
from cvbatch.errors import ImageError
from cvbatch.images.decode import decode
from cvbatch.images.tiff.geotransform import read_geo_reference
from cvbatch.models.spec import ModelSpec, rows_schema
from cvbatch.output.data_files import WriteContext, write_data_files
from cvbatch.output.manifest import finish_run
from cvbatch.output.store import open_store
from cvbatch.planning.plan import make_plan
from cvbatch.planning.units import RowUnit, read_unit_rows
from cvbatch.schema import GEO_CRS, GEO_TRANSFORM
from cvbatch.sources import open_source
from cvbatch.sources.fetch.plan_rows import plan_fetches
from cvbatch.storage.location import Location
from tests.samples import block, job, spec, started

CATEGORIES = ("person", "car", "dog")
Box = tuple[str, float, tuple[float, float, float, float]]
"""Class, score and corners."""
Find = Callable[[str, int, int], Sequence[Any]]
"""What the made-up model finds in an image, by its URI, width and height: boxes, or (box, counts of its mask)."""


def made_run(
    source: str,
    output: Location | str,
    find: Find,
    /,
    *,
    masks: bool = False,
    categories: Sequence[str] = CATEGORIES,
    **parts: Any,
) -> str:
    """A finished run: every image is read and hashed, and has the boxes that `find` says; unreadable ones fail."""
    place = Location.from_path_or_uri(output)
    model = spec("detection", "detection", categories=tuple(categories), masks=masks)
    store = open_store(place)
    store.check_writable()
    asked = job(source, place.uri, **parts)
    plan = make_plan(store, asked, [model], open_source(asked.source))
    log = started(store, plan.rows)
    for part in plan.parts:
        unit = RowUnit(part["path"], part["first_row_id"], part["first_row_id"] + part["rows"])
        rows = read_unit_rows(place, unit)
        columns = _columns_of(rows, model, find, asked)
        failed = [row for row, size in zip(range(unit.low, unit.high), columns["width"], strict=True) if size is None]
        made = block(unit.low, unit.high, model, failed=failed, **columns)
        context = WriteContext(place, log.epoch, rows_schema([model], geo=asked.source.geo))
        log.commit_files(write_data_files(context, [made]).files)
    finish_run(log)
    return place.uri


def _columns_of(rows: Any, model: ModelSpec, find: Find, asked: Job) -> dict[str, list[Any]]:
    names = ["width", "height", "format", "content_sha256", "image_bytes"]
    lists = ["detection_boxes", "detection_labels", "detection_label_ids", "detection_scores"]
    lists += ["detection_masks"] if model.masks else []
    names += [GEO_TRANSFORM, GEO_CRS] if asked.source.geo else []
    columns: dict[str, list[Any]] = {name: [] for name in [*names, *lists]}
    columns["image_uri"] = rows["image_uri"].to_pylist()
    for uri, fetch in zip(columns["image_uri"], plan_fetches(rows, asked.source.fetch_options), strict=True):
        values: Mapping[str, Any] = dict.fromkeys(columns)
        try:
            data = fetch()
            place = read_geo_reference(data) if asked.source.geo else None
            places = {} if place is None else {GEO_TRANSFORM: place.transform, GEO_CRS: place.crs}
            values = {**values, **places, **_facts_of(uri, data, model, find)}
        except (ImageError, OSError):
            pass
        for name in columns:
            if name != "image_uri":
                columns[name].append(values[name])
    return columns


def _facts_of(uri: str, data: bytes, model: ModelSpec, find: Find) -> dict[str, Any]:
    decoded = decode(data, max_pixels=10**9)
    found = find(uri, decoded.width, decoded.height)
    boxes = [one[0] if model.masks else one for one in found]
    facts: dict[str, Any] = {
        "width": decoded.width,
        "height": decoded.height,
        "format": decoded.format,
        "content_sha256": hashlib.sha256(data).hexdigest(),
        "image_bytes": len(data),
        "detection_boxes": [list(box) for _, _, box in boxes],
        "detection_labels": [label for label, _, _ in boxes],
        "detection_label_ids": [model.categories.index(label) for label, _, _ in boxes],
        "detection_scores": [score for _, score, _ in boxes],
    }
    if model.masks:
        facts["detection_masks"] = [counts for _, counts in found]
    return facts
