"""What the page of a report shows; every part is None or empty where the run does not have it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cvbatch.results.error_groups import ErrorKind


@dataclass(frozen=True, slots=True)
class Fact:
    """A name with a value, as a person reads them."""

    name: str
    value: str
    detail: str = ""
    """Such as an interval."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """One model of the run."""

    alias: str
    model: str
    task: str
    weights: str
    licence: str | None
    categories: int


@dataclass(frozen=True, slots=True)
class ReportHead:
    """What was run, and whether the answer is whole."""

    title: str
    sources: list[str]
    models: list[ModelCard]
    facts: list[Fact]
    """When, where, how fast, what it cost."""
    certificate: str | None
    """Why the settings keep the answers, in a sentence."""
    is_complete: bool
    completeness: str
    """What `cvbatch verify` says, in a sentence."""
    picture: str | None = None
    """A picture of the whole run that comes first, such as a contact sheet: a file below the page."""
    overline: str = "Report of a run"
    """What the page is, above its title."""


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How often a model gave one label."""

    label: str
    images: int
    elements: int
    """Boxes or segments; the same as `images` for classification."""
    mean_score: float | None
    """None where the model gives no scores."""


@dataclass(frozen=True, slots=True)
class LabelShares:
    """Shares of the most frequent labels over groups of images, such as folders or months."""

    group: str
    """Such as `folder` or `month of capture`."""
    groups: list[str]
    images: list[int]
    """Of each group."""
    labels: list[str]
    shares: list[list[float]]
    """(groups, labels), of the images of a group."""


@dataclass(frozen=True, slots=True)
class ScoreHistogram:
    """How sure a model is; the bins have the same width, from 0 to 1."""

    counts: list[int]
    """(bins,), of all labels."""
    by_label: dict[str, list[int]]
    """(bins,) for each of the most frequent labels."""


@dataclass(frozen=True, slots=True)
class LabelSection:
    """Labels of one model."""

    alias: str
    task: str
    counts: list[LabelCount]
    """The most frequent first."""
    other_labels: int
    """Labels beyond those in `counts`."""
    shares: list[LabelShares]
    histogram: ScoreHistogram | None


@dataclass(frozen=True, slots=True)
class ImageElement:
    """A label of an image, with its box or mask where it has one."""

    alias: str
    label: str
    score: float | None
    box: tuple[float, float, float, float] | None = None
    """xyxy, as shares of the width and the height of the upright image."""
    outline: list[list[float]] = field(default_factory=list)
    """Polygons of a mask, each as x, y, x, y …, as shares of the width and the height."""


@dataclass(frozen=True, slots=True)
class GalleryImage:
    """One image that the page shows."""

    row_id: int
    uri: str
    name: str
    """Below the source."""
    folder: str
    link: str | None
    """Where a browser finds the original; None where it cannot."""
    status: str
    message: str | None
    """Why it failed."""
    reason: str
    """Why it was chosen: `sure`, `unsure`, `random`, `error`, `rare class`, or a section, such as `duplicate`."""
    width: int | None
    height: int | None
    thumbnail: str | None
    """File below the page, such as `thumbnails/12.webp`; None where the image cannot be read."""
    elements: list[ImageElement]
    note: str | None = None
    """What stands below it instead of its surest label."""


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """Images as points of a plane; alike ones are near each other."""

    alias: str
    method: str
    """Such as `UMAP` or `PCA`, with the number of images it was made from."""
    row_ids: list[int]
    points: list[tuple[float, float]]
    """(images, 2), from 0 to 1."""
    labels: list[str]
    label_of_point: list[int]
    """Index into `labels`; -1 for none of them."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A line plot."""

    title: str
    x_title: str
    y_title: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is true of a place in an image, and what was answered; the same where the answer is right."""

    row_id: int
    truth: ImageElement | None
    """None where nothing is."""
    answer: ImageElement | None
    """None where nothing was found."""
    overlap: float | None = None
    """IoU of the two."""


@dataclass(frozen=True, slots=True)
class MistakeGroup:
    """Mistakes of one kind."""

    title: str
    meaning: str
    mistakes: list[Mistake]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A table of numbers with names, such as a confusion matrix; a cell may open images."""

    title: str
    row_title: str
    column_title: str
    rows: list[str]
    columns: list[str]
    values: list[list[float]]
    examples: dict[str, list[int]]
    """Row ids of images of the gallery, by `ROW,COLUMN` (indices)."""
    mistakes: dict[str, list[Mistake]] = field(default_factory=dict)
    """Instead of `examples`, where a cell is about places in images."""


@dataclass(frozen=True, slots=True)
class DataTable:
    """A table that can be sorted and downloaded."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    """Texts, numbers and None."""


@dataclass(frozen=True, slots=True)
class ImageGroup:
    """Images of the gallery that belong together."""

    title: str
    row_ids: list[int]


@dataclass(frozen=True, slots=True)
class MistakeKinds:
    """How often a model is wrong in which way, with pictures."""

    table: DataTable
    hint: str
    """What the counts are of."""
    groups: list[MistakeGroup]


@dataclass(frozen=True, slots=True)
class AnswerSection:
    """One of the answers: evaluation, comparison, duplicates, drift, repeats."""

    name: str
    title: str
    sentence: str
    facts: list[Fact] = field(default_factory=list)
    tables: list[DataTable] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    groups: list[ImageGroup] = field(default_factory=list)
    kinds: MistakeKinds | None = None
    """Kinds of mistake, with pictures."""
    notes: list[str] = field(default_factory=list)
    """What was assumed, and what is not there."""
    leads: bool = False
    """Whether it comes first on the page, before labels and gallery."""


@dataclass(frozen=True, slots=True)
class PageData:
    """Everything on the page."""

    head: ReportHead
    errors: list[ErrorKind]
    skipped: list[Fact]
    """Other files of the source, by suffix, with their number."""
    labels: list[LabelSection]
    gallery: list[GalleryImage]
    maps: list[EmbeddingMap]
    answers: list[AnswerSection]
    notes: list[str]
    """What the page leaves out, and why."""
