"""The page is not larger than it may be, whatever a run has, and says what it leaves out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from cvbatch.report.fitting import LEVELS, fit_page
from cvbatch.report.page import render_page
from cvbatch.report.page_data import (
    AnswerSection,
    DataTable,
    Fact,
    ImageElement,
    ImageGroup,
    LabelCount,
    LabelSection,
    Matrix,
    PageData,
    ScoreHistogram,
)
from cvbatch.results.error_groups import ErrorKind, FailedImage
from tests.report.sample_page import sample_page

LONG = "写真" * 150
MOST = 1_000_000
CORNERS = [0.1234, 0.5678] * 80
TABLE = DataTable("Rows", [f"column {number}" for number in range(20)], [[LONG, *range(19)]] * 60)


def sections_of_everything(count: int) -> list[AnswerSection]:
    names = [f"{LONG} {number}" for number in range(40)]
    matrix = Matrix("m", "a", "b", names, names, [[1.0] * 40] * 40, {"39,39": [1], "0,0": [2]})
    return [
        AnswerSection("name", LONG, LONG, [Fact(LONG, LONG)] * 40, [TABLE] * 3, [matrix], [], [ImageGroup(LONG, [1])])
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PageData:
    return sample_page(tmp_path_factory.mktemp("page"), images=12)


@pytest.fixture(scope="module")
def large(data: PageData) -> PageData:
    """A page with far too much of everything."""
    elements = [ImageElement("boxes", f"{LONG} {number}", 0.5, (0, 0, 1, 1), [CORNERS] * 2) for number in range(6)]
    image = replace(data.gallery[0], uri=LONG, name=LONG, folder=LONG, message=LONG, elements=elements)
    counts = [LabelCount(f"{LONG} {number}", 9, 9, 0.5) for number in range(150)]
    histogram = ScoreHistogram([1] * 50, {count.label: [1] * 50 for count in counts[:30]})
    return replace(
        data,
        head=replace(data.head, sources=[LONG] * 100),
        errors=[ErrorKind(LONG, 1, LONG, [FailedImage(LONG, LONG)] * 5)] * 50,
        skipped=[Fact(LONG, "1")] * 400,
        labels=[LabelSection("boxes", "detection", counts, 3, data.labels[0].shares, histogram)] * 3,
        gallery=[replace(image, row_id=row) for row in range(100)],
        answers=sections_of_everything(2),
    )


@pytest.fixture(scope="module")
def fitted(large: PageData) -> tuple[PageData, bytes]:
    return fit_page(large, MOST)


@pytest.fixture(scope="module")
def smallest(large: PageData) -> tuple[PageData, bytes]:
    return fit_page(large, 0)


def test_a_page_that_fits_is_not_touched(data: PageData) -> None:
    assert fit_page(data) == (data, render_page(data).encode())


def test_a_page_of_any_size_fits(large: PageData, fitted: tuple[PageData, bytes]) -> None:
    assert len(render_page(large).encode()) > 4 * MOST
    shown, content = fitted
    assert MOST / 4 < len(content) <= MOST
    assert shown.notes[:-1] == large.notes
    assert shown.notes[-1].startswith("To keep the page small, some of these are left out or cut: ")
    assert "outlines of segments" in shown.notes[-1]


def test_the_smallest_page_does_not_grow_with_the_run(smallest: tuple[PageData, bytes]) -> None:
    shown, content = smallest
    assert len(content) < 150_000
    assert (len(shown.gallery), len(shown.labels), len(shown.answers)) == (1, 1, 1)


def test_outlines_go_before_labels_and_labels_before_images(data: PageData) -> None:
    elements = [ImageElement("boxes", "cat", 0.5, (0, 0, 1, 1), [CORNERS] * 2)] * 12
    gallery = [replace(data.gallery[0], row_id=row, elements=elements) for row in range(100)]
    images = replace(data, labels=[], maps=[], answers=[], gallery=gallery)
    sizes, fixed = [], len(fit_page(images, 0)[1])
    for more_bytes in (5_000_000, 900_000, 200_000, 45_000, 1_000):
        shown, _ = fit_page(images, fixed + more_bytes)
        image = shown.gallery[0]
        sizes.append((sum(map(len, image.elements[0].outline)) // 4, len(image.elements), len(shown.gallery)))
        assert image.elements[0].box == (0, 0, 1, 1)
    assert sizes == [(80, 12, 100), (20, 12, 100), (12, 3, 100), (0, 1, 100), (0, 1, 1)]


def test_names_that_are_cut_stay_different_and_the_same_everywhere(fitted: tuple[PageData, bytes]) -> None:
    shown, _ = fitted
    section = shown.labels[0]
    labels = [count.label for count in section.counts]
    assert len(set(labels)) == len(labels) > 1
    assert max(map(len, labels)) < len(LONG)
    assert section.histogram is not None
    assert list(section.histogram.by_label) == labels[: len(section.histogram.by_label)]
    assert shown.gallery[0].elements[0].label == labels[0]


def test_what_is_no_text_for_people_is_not_cut(large: PageData, smallest: tuple[PageData, bytes]) -> None:
    shown, _ = smallest
    assert (shown.gallery[0].thumbnail, shown.gallery[0].reason) == (large.gallery[0].thumbnail, "sure")
    assert shown.labels[0].other_labels == 3 + 149


def test_links_are_whole_or_not_there(data: PageData) -> None:
    link = f"https://example.org/{'a' * 900}.jpg"
    page = replace(data, gallery=[replace(data.gallery[1], link=link)])
    assert fit_page(page)[0].gallery[0].link == link
    assert fit_page(page, 0)[0].gallery[0].link is None


def test_each_level_is_smaller_than_the_one_before() -> None:
    for before, after in itertools.pairwise(LEVELS):
        pairs = [(getattr(before, name), getattr(after, name)) for name in before.__slots__]
        assert all(first >= second for first, second in pairs)
        assert any(first > second for first, second in pairs)


def test_examples_of_a_cell_that_is_left_out_are_left_out(smallest: tuple[PageData, bytes]) -> None:
    shown, _ = smallest
    matrix = shown.answers[0].matrices[0]
    assert (len(matrix.rows), len(matrix.columns), matrix.values, matrix.examples) == (1, 1, [[1.0]], {})
