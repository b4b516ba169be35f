"""The page of a report: one HTML file with everything in it but the thumbnails."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from cvbatch.report.page_data import PageData
from cvbatch.report.payload import encode_payload
from cvbatch.tasks import DETECTION, SEGMENTATION

STYLES: Final = ("base.css", "sections.css", "gallery.css", "print.css")
SCRIPTS: Final = (
    "common.js",
    "colours.js",
    "downloads.js",
    "tables.js",
    "plots.js",
    "histogram.js",
    "shapes.js",
    "viewer.js",
    "mistakes.js",
    "gallery.js",
    "map_pictures.js",
    "map_view.js",
    "map.js",
    "answers.js",
    "contents.js",
)
"""In the order in which they need each other."""
WORDS: Final = {DETECTION.name: "boxes", SEGMENTATION.name: "segments"}
"""What the elements of a task are called."""


def render_page(data: PageData) -> str:
    """The page as HTML that needs nothing but the thumbnails beside it.

    Its content security policy allows one style sheet and one script, by their hashes, and images of the page's own
    place; so nothing in the data can make a browser run, load or send something.
    """
    style, script = _joined(STYLES), _joined(SCRIPTS)
    html = (
        _environment()
        .get_template("index.html")
        .render(
            data=data,
            style=Markup(style),
            script=Markup(script),
            payload=Markup(encode_payload(data)),
            policy=_policy(style, script),
            sections=_sections(data),
        )
    )
    return html.encode("utf-8", "replace").decode("utf-8")  # a name of a file need not be text


def _policy(style: str, script: str) -> str:
    # `file:` is what 'self' does not mean where the page is opened from a disk
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src 'self' file: data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


@cache
def _joined(names: tuple[str, ...]) -> str:
    folder = files("cvbatch.report") / "templates"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("cvbatch.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": _number, "share": _share, "level": _level}
    environment.globals |= {"words": WORDS}
    return environment


def _sections(data: PageData) -> list[tuple[str, str]]:
    """The id and the title of each part that the page has."""
    answers = [(f"answer-{number}", answer.title, answer.leads) for number, answer in enumerate(data.answers)]
    parts: list[tuple[str, str, object]] = [
        *((name, title, True) for name, title, leads in answers if leads),
        ("errors", "What went wrong", data.errors or data.skipped),
        ("labels", "Labels", data.labels),
        ("gallery", "Gallery", data.gallery),
        ("map", "Map", data.maps),
        *((name, title, True) for name, title, leads in answers if not leads),
        ("notes", "Notes", data.notes),
    ]
    return [(name, title) for name, title, has_content in parts if has_content]


def _number(value: object) -> str:
    """Digits in groups; fractions with as many digits as say something."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    if 0 < value < 0.0005:
        return "<0.001"
    if 0.0005 <= size < 1000:
        return f"{value:.3f}" if size < 10 else f"{value:.1f}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.3g}"


def _share(value: float) -> str:
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 9.95 or percent == 0 else f"{percent:.1f} %"


def _level(value: float, highest: float) -> int:
    """How dark a cell is, from 0 to 9."""
    return 0 if highest <= 0 or value <= 0 else min(9, 1 + int(8.999 * value / highest))
