"""The labels, boxes and masks of the images that are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cvbatch.models.spec import ModelSpec
from cvbatch.report.outlines import trace_outline
from cvbatch.report.page_data import ImageElement
from cvbatch.schema import HEIGHT, WIDTH

_LISTS: Final = ("labels", "scores", "boxes", "masks")
_TOP: Final = ("top_labels", "top_scores")
_SINGLE: Final = ("label", "score")
_MOST: Final = 24
"""Elements of one model that are shown: the surest ones."""
_OTHER_CLASSES: Final = 3
_DIGITS: Final = 4

Row = Mapping[str, Any]


def element_columns(model: ModelSpec) -> list[str]:
    """Columns of the predictions that `read_elements` takes of a model."""
    stored = {column.name for column in model.column_fields()}
    return [name for short in (*_LISTS, *_TOP, *_SINGLE) if (name := f"{model.alias}_{short}") in stored]


def read_elements(model: ModelSpec, row: Row) -> list[ImageElement]:
    """What one model says of one image.

    Args:
        model: The model.
        row: Values of one image by column, with `width` and `height`.
    """
    if isinstance(row.get(f"{model.alias}_labels"), list):
        return _read_lists(model, row)
    labels, scores = (row.get(f"{model.alias}_{short}") for short in _TOP)
    if labels is None:
        label, score = (row.get(f"{model.alias}_{short}") for short in _SINGLE)
        labels, scores = ([], []) if label is None else ([label], [score])
    pairs = zip(labels[:_OTHER_CLASSES], scores or [None] * len(labels), strict=False)
    return [ImageElement(model.alias, label, _round_score(score)) for label, score in pairs]


def _read_lists(model: ModelSpec, row: Row) -> list[ImageElement]:
    labels, scores, boxes, masks = (row.get(f"{model.alias}_{short}") for short in _LISTS)
    assert labels is not None, "only called with a list"
    width, height = row[WIDTH], row[HEIGHT]
    elements = []
    for place, label in enumerate(labels[:_MOST]):
        box = None if boxes is None or not width or not height else _share_of_box(boxes[place], width, height)
        outline = [] if masks is None or not masks[place] or not width else trace_outline(masks[place], width, height)
        score = None if scores is None else _round_score(scores[place])
        elements.append(ImageElement(model.alias, label, score, box, outline))
    return elements


def _share_of_box(box: list[float], width: int, height: int) -> tuple[float, float, float, float]:
    x_min, y_min, x_max, y_max = box
    shares = (x_min / width, y_min / height, x_max / width, y_max / height)
    left, top, right, bottom = (round(min(max(share, 0.0), 1.0), _DIGITS) for share in shares)
    return left, top, right, bottom


def _round_score(score: float | None) -> float | None:
    return None if score is None else round(float(score), _DIGITS)
