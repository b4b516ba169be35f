"""One picture of the results of a run: photos with their label, boxes and masks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from cvbatch.images.decode import decode
from cvbatch.results.draw import (
    colour_of_label,
    draw_labelled_boxes,
    fit_into_frame,
    load_font,
    paint_mask,
    shorten_text,
)
from cvbatch.tasks.masks import decode_mask

if TYPE_CHECKING:
    import pandas as pd

TILE_SIZE: Final = (300, 236)
"""(width, height) of the area for a photo, in pixels."""
MARGIN: Final = 36
GAP: Final = 22
TITLE_HEIGHT: Final = 84
CAPTION_HEIGHT: Final = 54
_SCORE_WEIGHT: Final = 0.3
"""Weight of the score; a larger weight gives more similar photos."""
_MAX_CANDIDATES: Final = 2000
_MAX_PIXELS: Final = 178_000_000

_PAPER, _MAT, _INK, _FAINT = (250, 250, 248), (236, 236, 232), (28, 30, 36), (112, 116, 124)


def draw_contact_sheet(photos: pd.DataFrame, title: str, *, columns: int = 6, rows: int = 4) -> Image.Image:
    """Draw photos with high scores, no two of them alike.

    Args:
        photos: Predictions of the four tasks under their default aliases, without error rows; see `cvbatch.read`.
        title: One line above the photos.
        columns: Photos in a row.
        rows: Rows of photos; fewer if there are not enough photos.

    Returns:
        An RGB image; its size depends on the number of photos.
    """
    photos = photos.iloc[choose_diverse_photos(photos, columns * rows)]
    rows = -(-len(photos) // columns)
    width = 2 * MARGIN + columns * (TILE_SIZE[0] + GAP) - GAP
    height = 2 * MARGIN + TITLE_HEIGHT + rows * (TILE_SIZE[1] + CAPTION_HEIGHT + GAP) - GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), shorten_text(title, load_font(32), width - 2 * MARGIN), _INK, load_font(32))
    draw.text(
        (MARGIN, MARGIN + 44), shorten_text(_LEGEND_TEXT, load_font(18), width - 2 * MARGIN), _FAINT, load_font(18)
    )
    for index, photo in enumerate(photos.itertuples()):
        left = MARGIN + index % columns * (TILE_SIZE[0] + GAP)
        top = MARGIN + TITLE_HEIGHT + index // columns * (TILE_SIZE[1] + CAPTION_HEIGHT + GAP)
        _paste_photo(sheet, left, top, photo)
    return sheet


_LEGEND_TEXT: Final = (
    "Below each photo: the best label of the whole picture with its score, and the photo's row_id. "
    "In it: boxes of a detector, and masks from class activation maps."
)


def choose_diverse_photos(photos: pd.DataFrame, count: int) -> list[int]:
    """Choose rows with high scores that differ, by maximal marginal relevance.

    Carbonell and Goldstein, The Use of MMR (SIGIR 1998): each step adds the row with the best balance of its score and
    its similarity to the most similar row that is already chosen.

    Args:
        photos: With `classification_score`, `detection_scores` (best first) and `embedding_vector`; the score of a
            photo is the mean of its label's and its best box's.
        count: The number of rows to choose.

    Returns:
        Positions in the order of choice; at most `count`.
    """
    best_boxes = photos["detection_scores"].str[0].fillna(0)
    scores = ((photos["classification_score"] + best_boxes) / 2).to_numpy(np.float32)
    candidates = np.argsort(-scores, kind="stable")[:_MAX_CANDIDATES]
    if not len(candidates):
        return []
    scores, vectors = scores[candidates], np.stack(photos["embedding_vector"].iloc[candidates].to_list())
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    similarity = np.zeros(len(candidates), np.float32)
    chosen: list[int] = []
    while len(chosen) < min(count, len(candidates)):
        value: npt.NDArray[np.float32] = _SCORE_WEIGHT * scores - (1 - _SCORE_WEIGHT) * similarity
        value[chosen] = -np.inf
        chosen.append(int(value.argmax()))
        similarity = np.maximum(similarity, vectors @ vectors[chosen[-1]])
    return [int(candidates[index]) for index in chosen]


def _paste_photo(sheet: Image.Image, left: int, top: int, photo: Any) -> None:
    width, height = photo.width, photo.height
    image = fit_into_frame(decode(Path(photo.image_uri).read_bytes(), max_pixels=_MAX_PIXELS).image, *TILE_SIZE)
    for counts, label_id in zip(photo.segmentation_masks, photo.segmentation_label_ids, strict=True):
        paint_mask(image, decode_mask(counts, height, width), colour_of_label(int(label_id)))
    texts = [
        f"{label} {score:.2f}" for label, score in zip(photo.detection_labels, photo.detection_scores, strict=True)
    ]
    boxes = [tuple(np.multiply(box, image.width / width)) for box in photo.detection_boxes]
    draw_labelled_boxes(image, boxes, texts, [colour_of_label(int(label_id)) for label_id in photo.detection_label_ids])
    draw = ImageDraw.Draw(sheet)
    draw.rectangle((left, top, left + TILE_SIZE[0] - 1, top + TILE_SIZE[1] - 1), fill=_MAT)
    sheet.paste(image, (left + (TILE_SIZE[0] - image.width) // 2, top + (TILE_SIZE[1] - image.height) // 2))
    score = f"{photo.classification_score:.2f}"
    room = TILE_SIZE[0] - load_font(20).getlength(score) - GAP
    draw.text(
        (left, top + TILE_SIZE[1] + 8),
        shorten_text(photo.classification_label, load_font(20), room),
        _INK,
        load_font(20),
    )
    draw.text((left + TILE_SIZE[0], top + TILE_SIZE[1] + 8), score, _INK, load_font(20), anchor="ra")
    facts = f"row {photo.row_id}   {photo.format}   {width} x {height}"
    draw.text((left, top + TILE_SIZE[1] + 33), facts, _FAINT, load_font(16))
