"""A page of bounded size: its least needed parts are shortened until it fits, and a note says which."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from cvbatch.report.page import render_page
from cvbatch.report.page_data import PageData
from cvbatch.report.section_base import keep_shown
from cvbatch.report.shortening import Limits, Shortening

FOLDER_BYTES: Final = 4_980_000
"""Of all files of a report."""
PAGE_BYTES: Final = 2_500_000
"""Of the page itself, even if its pictures are smaller than they may be: what a browser opens in a second."""
LEVELS: Final = (
    Limits(),
    Limits(corners=40),
    Limits(corners=24, elements=16, letters=500),
    Limits(corners=20, elements=10, letters=250, points=1000, rows=60, labels=500),
    Limits(corners=16, elements=6, letters=160, points=500, rows=40, labels=200, entries=200),
    Limits(corners=12, elements=3, letters=120, points=300, rows=20, labels=100, entries=50),
    Limits(corners=0, elements=2, letters=80, points=200, rows=10, labels=50, entries=30),
    Limits(corners=0, elements=1, letters=60, points=200, rows=10, labels=50, entries=30, images=500),
    Limits(corners=0, elements=1, letters=60, points=100, rows=5, labels=20, entries=10, images=200),
    Limits(corners=0, elements=1, letters=40, points=0, rows=1, labels=1, entries=1, images=1),
)
"""From a page with everything to one whose size does not depend on the run."""


def fit_page(data: PageData, most_bytes: int = PAGE_BYTES) -> tuple[PageData, bytes]:
    """Render a page that is not larger than it may be.

    Args:
        data: Everything that there is to show.
        most_bytes: Of the page; the smallest page has about 100 kB.

    Returns:
        What the page shows, and the page.
    """
    for limits in LEVELS:
        shortened = _shorten_page(data, limits)
        content = render_page(shortened).encode()
        if len(content) <= most_bytes:
            break
    return shortened, content


def _shorten_page(data: PageData, limits: Limits) -> PageData:
    work = Shortening(limits)
    page: PageData = work.shorten(data)
    if not work.parts:
        return page
    shown = [image.row_id for image in page.gallery]
    note = f"To keep the page small, some of these are left out or cut: {', '.join(work.parts)}."
    return replace(page, answers=[keep_shown(section, shown) for section in page.answers], notes=[*page.notes, note])
