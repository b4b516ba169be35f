"""Parts of a page made shorter, each in its own way."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import singledispatchmethod
from itertools import islice
from typing import Any, Final

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
    ReportHead,
    ScoreHistogram,
)

_NO_LIMIT: Final = 1 << 30
_OWN: Final = ("gallery", "notes")
"""Parts of a page with a limit of their own, or that are few and short."""
_SENTENCE: Final = 400
"""Letters of what the head says in sentences."""
_MOST_MODELS: Final = 20


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


@dataclass(slots=True)
class Shortening:
    """Shortens the parts of one page; what is not named here is shortened field by field."""

    limits: Limits
    parts: dict[str, None] = field(default_factory=dict)
    """What was shortened, in the order of the page."""
    _texts: dict[str, str] = field(default_factory=dict)
    _taken: set[str] = field(default_factory=set)

    def first(self, values: list[Any], count: int, what: str) -> list[Any]:
        """The first values."""
        if len(values) > count:
            self.parts[what] = None
        return values[:count]

    @singledispatchmethod
    def shorten(self, part: Any) -> Any:
        """A part with no more of everything than it may have."""
        if not is_dataclass(part) or isinstance(part, type):
            return part
        return replace(part, **{item.name: self.shorten(getattr(part, item.name)) for item in fields(part)})

    @shorten.register
    def _(self, text: str) -> str:
        return self._within(text, self.limits.letters)

    def _within(self, text: str, letters: int) -> str:
        if len(text) <= letters:
            return text
        self.parts["long texts"] = None
        if text not in self._texts:
            self._texts[text] = self._cut(text, letters // 2)
        return self._texts[text]

    def _cut(self, text: str, half: int) -> str:
        """The beginning and the end of a text; no two texts become the same, because some of them are names."""
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
            self.parts["long lists"] = None
        return {self.shorten(key): self.shorten(value) for key, value in kept.items()}

    @shorten.register
    def _(self, data: PageData) -> PageData:
        images = self.first(data.gallery, self.limits.images, "images")
        others = {item.name: self.shorten(getattr(data, item.name)) for item in fields(data) if item.name not in _OWN}
        if not self.limits.points:
            others["maps"] = []
        return replace(data, **others, gallery=[self.shorten(image) for image in images])

    @shorten.register
    def _(self, head: ReportHead) -> ReportHead:
        return replace(
            head,
            title=self.shorten(head.title),
            sources=self.shorten(head.sources),
            models=[self.shorten(model) for model in self.first(head.models, _MOST_MODELS, "models")],
            facts=[self.shorten(fact) for fact in head.facts],
            certificate=None if head.certificate is None else self._within(head.certificate, _SENTENCE),
            completeness=self._within(head.completeness, _SENTENCE),
        )

    @shorten.register
    def _(self, image: GalleryImage) -> GalleryImage:
        counts: dict[str, int] = {}
        kept = []
        for element in image.elements:
            counts[element.alias] = counts.get(element.alias, 0) + 1
            if counts[element.alias] <= self.limits.elements:
                kept.append(self.shorten(element))
        if len(kept) < len(image.elements):
            self.parts["labels and boxes of an image"] = None
        texts = {name: self.shorten(getattr(image, name)) for name in ("uri", "name", "folder", "message")}
        link = image.link if image.link is None or len(image.link) <= self.limits.letters else None
        return replace(image, **texts, link=link, elements=kept)

    @shorten.register
    def _(self, element: ImageElement) -> ImageElement:
        outline, corners = element.outline, self.limits.corners
        if any(len(polygon) > 2 * corners for polygon in outline):
            self.parts["outlines of segments"] = None
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
        kept = {
            f"{row},{column}" for row in range(len(matrix.rows[:size])) for column in range(len(matrix.columns[:size]))
        }
        return replace(
            matrix,
            title=self.shorten(matrix.title),
            rows=self.shorten(matrix.rows),
            columns=self.shorten(matrix.columns),
            values=[row[:size] for row in matrix.values[:size]],
            examples={cell: self.shorten(ids) for cell, ids in matrix.examples.items() if cell in kept},
            mistakes={cell: self.shorten(some) for cell, some in matrix.mistakes.items() if cell in kept},
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
