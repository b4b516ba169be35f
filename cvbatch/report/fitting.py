"""A page of bounded size: its least needed parts are shortened until it fits, and a note says which."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import singledispatchmethod
from itertools import islice
from typing import Any, Final

from cvbatch.report.page import render_page
from cvbatch.report.page_data import (
    DataTable,
    EmbeddingMap,
    GalleryImage,
    ImageElement,
    LabelSection,
    LabelShares,
    Matrix,
    PageData,
    Plot,
    ScoreHistogram,
)
from cvbatch.report.section_base import keep_shown

FOLDER_BYTES: Final = 4_980_000
"""Of all files of a report."""
PAGE_BYTES: Final = 2_500_000
"""Of the page itself, even if its pictures are smaller than they may be: what a browser opens in a second."""
_NO_LIMIT: Final = 1 << 30
_OWN: Final = ("gallery", "notes")
"""Parts of a page with a limit of their own, or that are few and short."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many of everything a page may have."""

    corners: int = _NO_LIMIT
    """Of an outline."""
    elements: int = _NO_LIMIT
    """Labels, boxes or segments of one model in an image: the surest."""
    points: int = _NO_LIMIT
    """Images on a map."""
    rows: int = 1000
    """Of a table."""
    labels: int = _NO_LIMIT
    """Of a model."""
    letters: int = 2000
    """Of a text."""
    entries: int = 1000
    """Of all other lists."""
    images: int = _NO_LIMIT
    """In the gallery."""


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
    work = _Shortening(limits)
    page: PageData = work.shorten(data)
    if not work.shortened:
        return page
    shown = [image.row_id for image in page.gallery]
    note = f"To keep the page small, some of these are left out or cut: {', '.join(work.shortened)}."
    return replace(page, answers=[keep_shown(section, shown) for section in page.answers], notes=[*page.notes, note])


@dataclass(slots=True)
class _Shortening:
    """Shortens the parts of one page; what is not named here is shortened field by field."""

    limits: Limits
    shortened: dict[str, None] = field(default_factory=dict)
    """What was shortened, in order."""
    _texts: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def first(self, values: list[Any], count: int, what: str) -> list[Any]:
        """The first values."""
        if len(values) > count:
            self.shortened[what] = None
        return values[:count]

    @singledispatchmethod
    def shorten(self, part: Any) -> Any:
        """A part with no more of everything than it may have."""
        if not is_dataclass(part) or isinstance(part, type):
            return part
        return replace(part, **{item.name: self.shorten(getattr(part, item.name)) for item in fields(part)})

    @shorten.register
    def _(self, text: str) -> str:
        if len(text) <= self.limits.letters:
            return text
        self.shortened["long texts"] = None
        if text not in self._texts:
            self._texts[text] = self._cut(text)
        return self._texts[text]

    def _cut(self, text: str) -> str:
        """The beginning and the end of a text; no two texts become the same, because some of them are names."""
        half = self.limits.letters // 2
        short, number = f"{text[:half]}…{text[-half:]}", 2
        while short in self._taken:
            short, number = f"{text[:half]}… {number}", number + 1
        self._taken.add(short)
        return short

    @shorten.register
    def _(self, values: list) -> list[Any]:  # type: ignore[type-arg]  # singledispatch wants the plain class
        return [self.shorten(value) for value in self.first(values, self.limits.entries, "long lists")]

    @shorten.register
    def _(self, values: dict) -> dict[Any, Any]:  # type: ignore[type-arg]
        kept = dict(islice(values.items(), self.limits.entries))
        if len(kept) < len(values):
            self.shortened["long lists"] = None
        return {self.shorten(key): self.shorten(value) for key, value in kept.items()}

    @shorten.register
    def _(self, data: PageData) -> PageData:
        images = self.first(data.gallery, self.limits.images, "images")
        others = {item.name: self.shorten(getattr(data, item.name)) for item in fields(data) if item.name not in _OWN}
        return replace(data, **others, gallery=[self.shorten(image) for image in images])

    @shorten.register
    def _(self, image: GalleryImage) -> GalleryImage:
        counts: dict[str, int] = {}
        kept = []
        for element in image.elements:
            counts[element.alias] = counts.get(element.alias, 0) + 1
            if counts[element.alias] <= self.limits.elements:
                kept.append(self.shorten(element))
        if len(kept) < len(image.elements):
            self.shortened["labels and boxes of an image"] = None
        texts = {name: self.shorten(getattr(image, name)) for name in ("uri", "name", "folder", "message")}
        link = image.link if image.link is None or len(image.link) <= self.limits.letters else None
        return replace(image, **texts, link=link, elements=kept)

    @shorten.register
    def _(self, element: ImageElement) -> ImageElement:
        outline, corners = element.outline, self.limits.corners
        if any(len(polygon) > 2 * corners for polygon in outline):
            self.shortened["outlines of segments"] = None
            outline = [_thin(polygon, corners) for polygon in outline] if corners else []
        return replace(element, alias=self.shorten(element.alias), label=self.shorten(element.label), outline=outline)

    @shorten.register
    def _(self, section: LabelSection) -> LabelSection:
        counts = self.first(section.counts, self.limits.labels, "labels")
        return replace(
            section,
            alias=self.shorten(section.alias),
            counts=[self.shorten(count) for count in counts],
            other_labels=section.other_labels + len(section.counts) - len(counts),
            shares=self.shorten(section.shares),
            histogram=self.shorten(section.histogram),
        )

    @shorten.register
    def _(self, shares: LabelShares) -> LabelShares:
        width = self.limits.entries
        return replace(
            shares,
            groups=self.shorten(shares.groups),
            images=shares.images[:width],
            labels=self.shorten(shares.labels),
            shares=[row[:width] for row in shares.shares[:width]],
        )

    @shorten.register
    def _(self, histogram: ScoreHistogram) -> ScoreHistogram:
        kept = islice(histogram.by_label.items(), self.limits.labels)
        return replace(histogram, by_label={self.shorten(label): counts for label, counts in kept})

    @shorten.register
    def _(self, drawn: EmbeddingMap) -> EmbeddingMap:
        row_ids, count = self.first(drawn.row_ids, self.limits.points, "points of the map"), self.limits.points
        return replace(
            drawn,
            alias=self.shorten(drawn.alias),
            row_ids=row_ids,
            points=drawn.points[:count],
            labels=[self.shorten(label) for label in drawn.labels],
            label_of_point=drawn.label_of_point[:count],
        )

    @shorten.register
    def _(self, table: DataTable) -> DataTable:
        rows = self.first(table.rows, self.limits.rows, "rows of tables")
        return replace(
            table,
            title=self.shorten(table.title),
            columns=self.shorten(table.columns),
            rows=[self.shorten(row) for row in rows],
        )

    @shorten.register
    def _(self, matrix: Matrix) -> Matrix:
        size = self.limits.entries
        examples = {
            cell: row_ids
            for cell, row_ids in matrix.examples.items()
            if all(int(number) < size for number in cell.split(","))
        }
        return replace(
            matrix,
            rows=self.shorten(matrix.rows),
            columns=self.shorten(matrix.columns),
            values=[row[:size] for row in matrix.values[:size]],
            examples={cell: row_ids[:size] for cell, row_ids in examples.items()},
        )

    @shorten.register
    def _(self, plot: Plot) -> Plot:
        lines = islice(plot.lines.items(), self.limits.entries)
        return replace(plot, lines={self.shorten(name): _thin_line(line, self.limits.rows) for name, line in lines})


def _thin(polygon: list[float], corners: int) -> list[float]:
    """A closed line with at most so many of its corners, evenly taken."""
    step = -(-len(polygon) // (2 * corners))
    return [value for start in range(0, len(polygon), 2 * step) for value in polygon[start : start + 2]]


def _thin_line(line: list[tuple[float, float]], points: int) -> list[tuple[float, float]]:
    return line[:: -(-len(line) // max(points, 1))] if line else line
