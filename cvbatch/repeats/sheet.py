"""A picture of places where boxes repeat: three photos of each, so that a person sees whether it is always the same."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

from cvbatch.repeats.repeats import PLACE, PLACE_IMAGES
from cvbatch.results.committed import OpenedOutput
from cvbatch.results.draw import Corners, colour_of_label, draw_surroundings, load_font, shorten_text, spell_in_ascii
from cvbatch.results.planned_images import PlannedImages
from cvbatch.schema import ROW_ID

_PLACES: Final = 24
_PHOTOS: Final = 3
_COLUMNS: Final = 2
_CROP: Final = 200
"""Side of the area for a crop, in pixels."""
_ROOM: Final = 2.5
"""Side of a crop, in longer sides of the box."""
_SMALLEST_ROOM: Final = 0.15
"""Side of a crop, as a share of the shorter side of the photo."""
_MARGIN: Final = 24
_CAPTION: Final = 46
_PAPER, _MAT, _INK, _FAINT = (250, 250, 248), (236, 236, 232), (28, 30, 36), (112, 116, 124)


@dataclass(frozen=True, slots=True)
class _Tile:
    """One crop, by its place on the sheet."""

    row: int
    column: int
    box: Corners
    label_id: int


def draw_places(opened: OpenedOutput, table: pa.Table) -> bytes:
    """Draw the places with the most images.

    Args:
        opened: The run, whose images are read again; one that is gone gives an empty area.
        table: The answer, sorted by place.

    Returns:
        A PNG file.
    """
    places = _choose_boxes(table)
    rows = -(-len(places) // _COLUMNS)
    width = _MARGIN + _COLUMNS * (_PHOTOS * _CROP + _MARGIN)
    sheet = Image.new("RGB", (width, _MARGIN + rows * (_CROP + _CAPTION + _MARGIN)), _PAPER)
    tiles: dict[int, list[_Tile]] = {}
    for number, boxes in enumerate(places):
        _draw_caption(sheet, number, boxes[0])
        for column, box in enumerate(boxes):
            corners = (box["x_min"], box["y_min"], box["x_max"], box["y_max"])
            tiles.setdefault(box[ROW_ID], []).append(_Tile(number, column, corners, box["label_id"]))
    for row_id, photo in PlannedImages(opened).iter_photos(np.array(sorted(tiles), np.int64)):
        for tile in tiles[row_id]:
            left, top = _corner_of(tile.row)
            sheet.paste(_crop(photo, tile), (left + tile.column * _CROP, top))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()


def _choose_boxes(table: pa.Table) -> list[list[dict[str, Any]]]:
    """A few boxes of the first places: those of the first, the middle and the last image."""
    numbers = table[PLACE].to_numpy()
    chosen = []
    for place in range(min(_PLACES, int(numbers.max(initial=-1)) + 1)):
        low, high = np.searchsorted(numbers, [place, place + 1])
        positions = np.unique(np.linspace(low, high - 1, _PHOTOS).astype(int))
        chosen.append(table.take(pa.array(positions)).to_pylist())
    return chosen


def _corner_of(number: int) -> tuple[int, int]:
    """Upper left corner of the crops of a place."""
    row, column = divmod(number, _COLUMNS)
    return (
        _MARGIN + column * (_PHOTOS * _CROP + _MARGIN),
        _MARGIN + row * (_CROP + _CAPTION + _MARGIN),
    )


def _draw_caption(sheet: Image.Image, number: int, box: dict[str, Any]) -> None:
    draw, (left, top) = ImageDraw.Draw(sheet), _corner_of(number)
    width = _PHOTOS * _CROP
    draw.rectangle((left, top, left + width - 1, top + _CROP - 1), fill=_MAT)
    text = spell_in_ascii(f"{number}: {box['label']}, {box[PLACE_IMAGES]:,} images")
    draw.text((left, top + _CROP + 4), shorten_text(text, load_font(18), width), _INK, load_font(18))
    folder = spell_in_ascii("/".join(box["folder"].split("/")[-2:]))
    draw.text((left, top + _CROP + 26), shorten_text(folder, load_font(14), width), _FAINT, load_font(14))


def _crop(photo: Image.Image, tile: _Tile) -> Image.Image:
    x_min, y_min, x_max, y_max = tile.box
    side = max(_ROOM * max(x_max - x_min, y_max - y_min), _SMALLEST_ROOM * min(photo.size), 1)
    colour = colour_of_label(tile.label_id)
    area = draw_surroundings(photo, tile.box, side=side, edge=_CROP, ground=_MAT, colour=colour)
    ImageDraw.Draw(area).line((_CROP - 1, 0, _CROP - 1, _CROP), fill=_PAPER)
    return area
