"""A picture of objects that just missed the threshold, so that a person sees what stays visible."""

from __future__ import annotations

import io
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from cvbatch.edits.found_objects import ObjectSelection
from cvbatch.results.best_rows import BestRows
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.draw import draw_surroundings, load_font, shorten_text, spell_in_ascii
from cvbatch.results.elements import iter_elements
from cvbatch.results.list_columns import ElementSelection
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import IMAGE_URI, ROW_ID
from cvbatch.tasks import DETECTION

_COLUMNS: Final = 6
_TILES: Final = 30
_TILE: Final = 200
_CAPTION: Final = 40
_GAP: Final = 16
_ROOM: Final = 1.6
"""Side of a tile, in longer sides of the box."""
_SMALLEST_SIDE: Final = 32.0
"""Side of a tile, in pixels of the photo."""
_NEAR: Final = 0.5
"""Scores from this share of the threshold on are near it."""
_PAPER, _MAT, _INK, _FAINT, _FRAME = (250, 250, 248), (236, 236, 232), (28, 30, 36), (112, 116, 124), (226, 60, 40)


def draw_near_misses(opened: OpenedOutput, objects: ObjectSelection) -> tuple[int, bytes | None]:
    """Draw the surest of the objects below the threshold of an edit.

    Args:
        opened: The run, whose images are read again; one that is gone gives an empty tile.
        objects: What was edited.

    Returns:
        The number of objects with a score from half the threshold up to it, and a PNG file; None if there are none.
    """
    model = next(model for model in opened.plan.models if model.alias == objects.alias)
    if model.task != DETECTION.name:
        return 0, None
    columns = [ROW_ID, IMAGE_URI, "label", "score", "x_min", "y_min", "x_max", "y_max"]
    classes = None if objects.label_ids is None else sorted(objects.label_ids)
    selection = ElementSelection(columns=columns, minimum=_NEAR * objects.min_score, classes=classes)
    best, count = BestRows(_TILES), 0
    for table in iter_elements(opened, DETECTION, objects.alias, selection):
        scores = table["score"].to_numpy()
        near = table.filter(pa.array(scores < objects.min_score))
        count += near.num_rows
        if near.num_rows:
            best.add_rows(near, near["score"].to_numpy().astype(np.float64))
    chosen = best.finish()
    return count, None if chosen is None or not chosen.num_rows else _draw(opened, chosen.to_pylist())


def _draw(opened: OpenedOutput, tiles: list[dict[str, Any]]) -> bytes:
    rows = -(-len(tiles) // _COLUMNS)
    columns = min(_COLUMNS, len(tiles))
    sheet = Image.new("RGB", (_GAP + columns * (_TILE + _GAP), _GAP + rows * (_TILE + _CAPTION + _GAP)), _PAPER)
    numbers: dict[int, list[int]] = {}
    for number, tile in enumerate(tiles):
        numbers.setdefault(tile[ROW_ID], []).append(number)
        _draw_caption(sheet, number, tile)
    for row_id, photo in PlannedImages(opened).iter_photos(np.array(sorted(numbers), np.int64)):
        for number in numbers[row_id]:
            sheet.paste(_crop(photo, tiles[number]), _corner_of(number))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _corner_of(number: int) -> tuple[int, int]:
    row, column = divmod(number, _COLUMNS)
    return _GAP + column * (_TILE + _GAP), _GAP + row * (_TILE + _CAPTION + _GAP)


def _draw_caption(sheet: Image.Image, number: int, tile: dict[str, Any]) -> None:
    draw, (left, top) = ImageDraw.Draw(sheet), _corner_of(number)
    draw.rectangle((left, top, left + _TILE - 1, top + _TILE - 1), fill=_MAT)
    lines = (
        (f"{tile['label']} {tile['score']:.2f}", 16, _INK, 3),
        (tile[IMAGE_URI].rpartition("/")[2], 12, _FAINT, 23),
    )
    for text, size, colour, below in lines:
        shown = shorten_text(spell_in_ascii(text), load_font(size), _TILE)
        draw.text((left, top + _TILE + below), shown, colour, load_font(size))


def _crop(photo: Image.Image, tile: dict[str, Any]) -> Image.Image:
    box = (tile["x_min"], tile["y_min"], tile["x_max"], tile["y_max"])
    side = max(_ROOM * max(box[2] - box[0], box[3] - box[1]), _SMALLEST_SIDE)
    return draw_surroundings(photo, box, side=side, edge=_TILE, ground=_MAT, colour=_FRAME)
