"""The answers of other commands that a page shows; each section says itself whether the run has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from cvbatch.report.page_data import AnswerSection
from cvbatch.report.section_base import SectionRequest, shown_row_ids
from cvbatch.report.section_duplicates import show_duplicates
from cvbatch.report.section_evaluation import show_evaluation
from cvbatch.report.section_reference import show_reference
from cvbatch.report.section_repeats import show_repeats

SECTIONS: Final[tuple[Callable[[SectionRequest], list[AnswerSection]], ...]] = (
    show_evaluation,
    show_reference,
    show_duplicates,
    show_repeats,
)
"""In the order of the page."""
_SHARE: Final = 0.5
"""Most images of the page that are examples of answers."""


def make_sections(request: SectionRequest) -> list[AnswerSection]:
    """All sections that this run has."""
    return [section for show in SECTIONS for section in show(request)]


def choose_examples(sections: list[AnswerSection], most_images: int) -> dict[int, str]:
    """Images that the sections show, with the name of the section, by row id.

    Args:
        sections: In their order; each gets the same room.
        most_images: Most images of the page.
    """
    room = int(_SHARE * most_images) // max(len(sections), 1)
    chosen: dict[int, str] = {}
    for section in sections:
        for row_id in shown_row_ids(section)[:room]:
            chosen.setdefault(row_id, section.name)
    return chosen
