"""What the script of the page reads: JSON that cannot end the element that it stands in."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from cvbatch.report.page_data import (
    AnswerSection,
    GalleryImage,
    ImageElement,
    LabelSection,
    Matrix,
    Mistake,
    PageData,
)

GRID: Final = 10_000
"""Boxes and outlines are whole numbers from 0 to this, of the width and of the height."""
LABELS: Final = 50
"""Labels of a model that get a colour or a choice of their own, at most."""


def encode_payload(data: PageData) -> str:
    """JSON for the script, in which `<`, `>` and `&` are escaped, and whatever is not ASCII.

    Elements are lists of numbers, `[model, label, score, box, outline]`, of which `names` has the texts: a gallery may
    have many thousands. What has names from a run is a list of pairs, never an object whose keys come from a run.
    """
    names = _Names()
    gallery = [_image(image, names) for image in data.gallery]
    payload = {
        "labels": [_section(section) for section in data.labels],
        "gallery": gallery,
        "maps": _plain(data.maps),
        "answers": [_answer(answer, names) for answer in data.answers],
        "names": names.texts,  # last, when all of them have a number
    }
    text = json.dumps(payload, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


class _Names:
    """Texts with a number each."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def texts(self) -> list[str]:
        return list(self._numbers)


def _image(image: GalleryImage, names: _Names) -> dict[str, Any]:
    plain = {field.name: getattr(image, field.name) for field in fields(image) if field.name != "elements"}
    plain["link"] = image.link if _is_web(image.link) else None
    return plain | {"elements": [_element(element, names) for element in image.elements]}


def _is_web(link: str | None) -> bool:
    """Whether a browser should follow a link; a path beside the page counts, a script does not."""
    try:
        return link is not None and urlsplit(link).scheme in ("http", "https", "file", "")
    except ValueError:
        return False


def _element(element: ImageElement, names: _Names) -> list[Any]:
    row: list[Any] = [names.number(element.alias), names.number(element.label), _plain(element.score)]
    if element.box is not None or element.outline:
        row.append(_on_grid(element.box) if element.box is not None else None)
    if element.outline:
        row.append([_on_grid(polygon) for polygon in element.outline])
    return row


def _on_grid(shares: Iterable[float]) -> list[int]:
    return [round(GRID * min(max(share, 0.0), 1.0)) if math.isfinite(share) else 0 for share in shares]


def _section(section: LabelSection) -> dict[str, Any]:
    return {
        "alias": section.alias,
        "labels": [count.label for count in section.counts[:LABELS]],
        "histogram": _plain(section.histogram),
    }


def _answer(answer: AnswerSection, names: _Names) -> dict[str, Any]:
    """The parts of an answer that the script draws; its tables stand in the page."""
    return {
        "matrices": [_matrix(matrix, names) for matrix in answer.matrices],
        "plots": _plain(answer.plots),
        "groups": _plain(answer.groups),
        "kinds": [
            {"title": group.title, "meaning": group.meaning, "mistakes": _mistakes(group.mistakes, names)}
            for group in (answer.kinds.groups if answer.kinds else [])
        ],
    }


def _matrix(matrix: Matrix, names: _Names) -> dict[str, Any]:
    mistakes = [[cell, _mistakes(some, names)] for cell, some in matrix.mistakes.items()]
    plain: dict[str, Any] = _plain(replace(matrix, mistakes={}))
    return plain | {"mistakes": mistakes}


def _mistakes(mistakes: Iterable[Mistake], names: _Names) -> list[list[Any]]:
    """Rows of `[row_id, truth, answer, overlap]`."""
    return [
        [
            one.row_id,
            None if one.truth is None else _element(one.truth, names),
            None if one.answer is None else _element(one.answer, names),
            _plain(one.overlap),
        ]
        for one in mistakes
    ]


def _plain(value: Any) -> Any:
    """Records as objects, mappings as pairs, numbers that JSON has."""
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return [[key, _plain(item)] for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
