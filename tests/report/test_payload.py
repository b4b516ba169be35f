"""What the script of the page reads."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from cvbatch.report.page_data import ImageElement
from cvbatch.report.payload import encode_payload
from tests.report.sample_page import HOSTILE_NAME, HOSTILE_TEXT, sample_page


def test_payload_cannot_end_its_element_and_keeps_every_text(tmp_path: Path) -> None:
    text = encode_payload(sample_page(tmp_path))
    assert not set(text) & set("<>&\u2028")
    assert text.isascii()
    payload = json.loads(text)
    assert payload["gallery"][0]["name"] == HOSTILE_NAME
    assert payload["answers"][0]["groups"][1]["title"] == HOSTILE_TEXT


def test_elements_are_numbers_on_a_grid(tmp_path: Path) -> None:
    data = sample_page(tmp_path)
    box = ImageElement("detection", "__proto__", 0.123456789, (0.1, -0.2, math.nan, 1.5))
    mask = ImageElement("segmentation", "__proto__", math.nan, outline=[[0.0, 0.0, 1.0, 0.5, 0.25, 1.0]])
    whole = ImageElement("classification", "moped", None)
    images = [replace(data.gallery[0], elements=[box, mask, whole])]
    payload = json.loads(encode_payload(replace(data, gallery=images, answers=[])))
    assert payload["names"] == ["detection", "__proto__", "segmentation", "classification", "moped"]
    assert payload["gallery"][0]["elements"] == [
        [0, 1, 0.12346, [1000, 0, 0, 10000]],
        [2, 1, None, None, [[0, 0, 10000, 5000, 2500, 10000]]],
        [3, 4, None],
    ]


def test_names_from_a_run_are_never_keys(tmp_path: Path) -> None:
    payload = json.loads(encode_payload(sample_page(tmp_path)))
    assert "__proto__" in [label for label, _ in payload["labels"][0]["histogram"]["by_label"]]
    assert payload["answers"][0]["matrices"][0]["examples"][0] == ["0,1", [1, 2, 3]]
    assert keys(payload) <= KEYS, "only names of fields"


# fmt: off
KEYS = {
    "note",
    "labels", "gallery", "names", "maps", "answers", "alias", "histogram", "counts", "by_label", "row_id", "uri",
    "name", "folder", "link", "status", "message", "reason", "width", "height", "thumbnail", "elements", "method",
    "row_ids", "points", "label_of_point", "matrices", "plots", "groups", "title", "row_title", "column_title",
    "rows", "columns", "values", "examples", "x_title", "y_title", "lines",
    "kinds", "meaning", "mistakes",
}
# fmt: on


def keys(value: object) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {key for item in value.values() for key in keys(item)}
    return {key for item in value for key in keys(item)} if isinstance(value, list) else set()


@pytest.mark.parametrize(
    ("link", "is_kept"),
    [
        ("https://example.org/1.jpg", True),
        ("file:///photos/1.jpg", True),
        ("../photos/1.jpg", True),
        ("javascript:alert(1)", False),
        ("data:text/html,x", False),
        ("JavaScript:alert(1)", False),
        ("http://[broken", False),
    ],
)
def test_only_links_to_places_are_kept(tmp_path: Path, link: str, is_kept: bool) -> None:
    data = sample_page(tmp_path, images=2)
    payload = json.loads(encode_payload(replace(data, gallery=[replace(data.gallery[0], link=link)])))
    assert payload["gallery"][0]["link"] == (link if is_kept else None)
