"""The page in a real browser: what a person sees, clicks and presses, and what hostile names cannot do."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cvbatch.report.fitting import fit_page
from cvbatch.report.page import render_page
from cvbatch.report.page_data import (
    AnswerSection,
    DataTable,
    EmbeddingMap,
    GalleryImage,
    ImageElement,
    ImageGroup,
    LabelSection,
    LabelShares,
    Matrix,
    PageData,
    Plot,
    ScoreHistogram,
)
from tests.report.sample_page import HOSTILE_LABELS, HOSTILE_NAME, HOSTILE_TEXT, sample_page
from tests.rigs.browser import Browser, Page, open_browser

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[PageData, Path]:
    folder = tmp_path_factory.mktemp("report")
    data = sample_page(folder, images=60)
    (folder / "index.html").write_text(render_page(data), encoding="utf-8")
    return data, folder


@pytest.fixture
def page(browser: Browser, report: tuple[PageData, Path]) -> Iterator[Page]:
    with browser.page((report[1] / "index.html").as_uri()) as page:
        yield page


@pytest.fixture
def data(report: tuple[PageData, Path]) -> PageData:
    return report[0]


def gallery_counts(page: Page) -> list[int]:
    """Images shown, of how many; labels that count, of how many."""
    return [int(number.replace(",", "")) for number in re.findall(r"[\d,]*\d", page.inner_text("#gallery-count"))]


def expected_counts(data: PageData, images: list[GalleryImage], labels: list[ImageElement]) -> list[int]:
    return [len(images), len(data.gallery), len(labels), sum(len(image.elements) for image in data.gallery)]


def test_everything_is_shown_at_first(page: Page, data: PageData) -> None:
    assert gallery_counts(page) == expected_counts(
        data, data.gallery, [e for image in data.gallery for e in image.elements]
    )
    assert page.locator("#tiles .tile:visible").count() == 48
    page.click("#gallery-more")
    assert page.locator("#tiles .tile:visible").count() == 60
    assert page.locator("#gallery-more").is_hidden()


def test_representative_images_come_first_and_failed_ones_last(
    browser: Browser, tmp_path: Path, data: PageData
) -> None:
    reasons = ["duplicates", "error", "random", "rare class"]
    images = [replace(data.gallery[row], reason=reason) for row, reason in enumerate(reasons)]
    images[1] = replace(images[1], status="error", message="EmptyFile")
    page_data = replace(data, gallery=[replace(image, thumbnail=None) for image in images])
    (tmp_path / "index.html").write_text(render_page(page_data), encoding="utf-8")
    with browser.page((tmp_path / "index.html").as_uri()) as page:
        rows = page.evaluate("[...document.querySelectorAll('#tiles .tile')].map((tile) => Number(tile.dataset.row))")
        assert rows == [2, 3, 0, 1]


def test_weak_boxes_are_not_drawn_where_there_are_many(browser: Browser, tmp_path: Path, data: PageData) -> None:
    scores = [round(0.02 * place, 2) for place in range(1, 41)]
    boxes = [ImageElement("detection", "moped", score, (0.1, 0.1, 0.9, 0.9)) for score in scores]
    images = [replace(image, elements=boxes, thumbnail=PIXEL) for image in data.gallery[:4]]
    page_data = replace(data, gallery=images, maps=[], answers=[])
    (tmp_path / "index.html").write_text(render_page(page_data), encoding="utf-8")
    with browser.page((tmp_path / "index.html").as_uri()) as page:
        assert page.inner_text("#draw-from-value") == "0.70", "the score of the sixth of each, in twentieths"
        assert gallery_counts(page) == [4, 4, 160, 160]
        page.locator("#tiles button").first.click()
        assert page.locator("#viewer .box").count() == sum(score >= 0.7 for score in scores)
        page.keyboard.press("Escape")
        page.locator("#draw-from").fill("0.2")
        page.locator("#tiles button").first.click()
        assert page.locator("#viewer .box").count() == sum(score >= 0.2 for score in scores)
        assert gallery_counts(page) == [4, 4, 160, 160]


@pytest.mark.parametrize("field", ["folder", "status", "reason"])
def test_gallery_filters_by_what_an_image_is(page: Page, data: PageData, field: str) -> None:
    value = getattr(data.gallery[-1], field)
    page.select_option(f"#filter-{field}", value)
    images = [image for image in data.gallery if getattr(image, field) == value]
    assert 0 < len(images) < len(data.gallery)
    assert gallery_counts(page) == expected_counts(data, images, [e for image in images for e in image.elements])
    assert page.locator("#tiles .tile:visible").count() == len(images)


@pytest.mark.parametrize("label", ["moped", "__proto__", "constructor"])
def test_gallery_filters_by_label_and_score(page: Page, data: PageData, label: str) -> None:
    names = page.locator("#filter-label option").all_inner_texts()
    page.select_option("#filter-label", index=[name.rpartition(" (")[0] for name in names].index(label))
    page.locator("#filter-score").fill("0.6")
    images, labels = counted(data, lambda e: e.label == label and (e.score is None or e.score >= 0.6))
    assert 0 < len(images) < len(data.gallery)
    assert gallery_counts(page) == expected_counts(data, images, labels)
    page.click("#filter-reset")
    assert gallery_counts(page)[0] == len(data.gallery)


def test_models_and_classes_are_switched(page: Page, data: PageData) -> None:
    page.click("#legend-models label:has-text('segmentation')")
    page.locator("#filter-score").fill("0.8")
    images, labels = counted(data, lambda e: e.alias != "segmentation" and e.score >= 0.8)
    assert gallery_counts(page) == expected_counts(data, images, labels)
    assert page.locator("#tiles .tile:visible .overlay path.mask").count() == 0
    before = page.locator("#tiles .tile:visible .overlay path.box.c-0").count()
    page.locator("#legend-classes label").first.click()
    assert before > page.locator("#tiles .tile:visible .overlay path.box.c-0").count() == 0
    assert gallery_counts(page) == expected_counts(data, images, labels)


def counted(data: PageData, counts: object) -> tuple[list[GalleryImage], list[ImageElement]]:
    images = [image for image in data.gallery if any(counts(e) for e in image.elements)]
    return images, [e for image in images for e in image.elements if counts(e)]


def test_histogram_counts_again(page: Page, data: PageData) -> None:
    histogram = data.labels[1].histogram
    assert histogram is not None
    block = page.locator('[data-histogram="1"]')
    block.locator("input").fill("7")
    above, every = sum(histogram.counts[7:]), sum(histogram.counts)
    assert block.locator(".re-count").inner_text() == f"{above:,} of {every:,} boxes above 0.35"
    block.locator("select").select_option(label="__proto__")
    chosen = histogram.by_label["__proto__"]
    assert block.locator(".re-count").inner_text() == f"{sum(chosen[7:]):,} of {sum(chosen):,} boxes above 0.35"


def test_label_table_is_searched_and_sorted(page: Page, data: PageData) -> None:
    block = page.locator(".label-section").nth(1).locator(".table-block").first
    block.locator("input[type=search]").fill("LABEL 00")
    assert block.locator("tbody tr:visible").count() == sum(
        "label 00" in count.label for count in data.labels[1].counts
    )
    block.locator("input[type=search]").fill("")
    block.get_by_role("button", name="Mean score").click()
    scores = [count.mean_score for count in data.labels[1].counts]
    assert block.locator("tbody tr th").all_inner_texts() == [
        count.label for _, count in sorted(zip(scores, data.labels[1].counts, strict=True), key=lambda pair: -pair[0])
    ]
    block.get_by_role("button", name="Label", exact=True).click()
    assert block.locator("th[aria-sort=ascending]").inner_text().startswith("Label")


def test_plots_can_be_downloaded(page: Page, data: PageData) -> None:
    with page.expect_download() as download:
        page.get_by_role("button", name="Download Confusion as CSV").click()
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    matrix = data.answers[0].matrices[0]
    assert download.value.suggested_filename == "Confusion.csv"
    assert text.splitlines()[0] == ",".join(["truth", *matrix.columns])
    assert text.splitlines()[3] == ",".join([matrix.rows[2], *map(str, matrix.values[2])])


def test_large_view_is_used_by_keys(page: Page, data: PageData) -> None:
    page.locator("#tiles button").nth(1).focus()
    page.keyboard.press("Enter")
    assert page.locator("#viewer").is_visible()
    assert page.inner_text("#viewer-name") == data.gallery[1].name
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#viewer-name") == data.gallery[2].name
    assert page.inner_text("#viewer-place") == "3 of 60"
    assert page.locator("#viewer a").get_attribute("href") == data.gallery[2].link
    assert page.locator("#viewer .box").count() == 4
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    assert page.inner_text("#viewer-place") == "1 of 60"
    assert page.locator("#viewer-before").is_disabled()
    page.keyboard.press("Escape")
    assert page.locator("#viewer").is_hidden()
    assert page.evaluate("document.activeElement.closest('.tile').dataset.row") == "1"


def test_large_view_goes_through_what_is_shown(page: Page, data: PageData) -> None:
    page.select_option("#filter-reason", "unsure")
    page.locator("#tiles button:visible").first.click()
    assert page.inner_text("#viewer-place") == f"1 of {sum(image.reason == 'unsure' for image in data.gallery)}"
    page.click("#viewer-close")
    assert page.locator("#viewer").is_hidden()


def test_a_cell_of_a_matrix_opens_its_images(page: Page, data: PageData) -> None:
    page.get_by_role("button", name="truth moped, predicted espresso").click()
    assert page.inner_text("#viewer-place") == "1 of 3"
    assert page.inner_text("#viewer-name") == data.gallery[1].name
    page.keyboard.press("Escape")
    page.get_by_role("button", name="truth Egyptian cat, predicted moped").click()
    assert page.inner_text("#viewer-place") == "1 of 1"


def test_mistakes_open_with_what_is_true_and_what_was_answered(page: Page, data: PageData) -> None:
    kinds = data.answers[0].kinds
    assert kinds is not None
    group = page.locator("#answer-0 .kinds .group").nth(1)
    assert group.locator("h4").inner_text() == kinds.groups[1].title
    assert group.locator(".mistake").count() == 4
    assert [tile.locator("path.box").count() for tile in group.locator(".mistake").all()] == [1, 2, 2, 1]
    group.locator("button").nth(1).click()
    assert page.inner_text("#viewer-place") == "2 of 4"
    assert page.inner_text("#viewer-name") == data.gallery[1].name
    facts = page.locator("#viewer-facts").inner_text().split("\n")
    assert facts[:2] == ["Mistake", "badly placed"]
    assert facts[2:8] == ["Truth", "moped", "Answer", "espresso 0.71", "Overlap", "IoU 0.34"]
    assert page.locator("#viewer .box").count() == 2
    page.keyboard.press("ArrowRight")
    assert page.locator("#viewer-facts dd").nth(1).inner_text() == "</script>"
    assert page.locator("#viewer .tag").all_inner_texts() == ["</script>", "__proto__ 0.71"]
    page.keyboard.press("Escape")
    page.get_by_role("button", name="truth __proto__, predicted __proto__: ").click()
    assert page.locator("#viewer .box").count() == 2
    page.keyboard.press("Escape")
    assert page.get_by_role("button", name="truth espresso, predicted moped: ").count() == 0, "its image is not there"


def test_a_crop_shows_the_boxes(page: Page, data: PageData) -> None:
    """Where the picture is cut, the boxes are inside, and at the place that they have in the picture."""
    page.locator(".mistake").first.scroll_into_view_if_needed()
    script = """(tile) => {
        const around = ({ left, top, right, bottom }) => [left, top, right, bottom];
        const parts = [".frame", "img", "path.side-truth"].map((part) => tile.querySelector(part));
        return parts.map((part) => around(part.getBoundingClientRect()));
    }"""
    frame, picture, shape = page.locator(".mistake").nth(1).evaluate(script)
    kinds = data.answers[0].kinds
    assert kinds is not None
    truth = kinds.groups[0].mistakes[1].truth
    assert truth is not None
    assert truth.box is not None
    for axis in (0, 1):
        assert frame[axis] - 1 <= shape[axis] < shape[axis + 2] <= frame[axis + 2] + 1
        length = picture[axis + 2] - picture[axis]
        for side in (axis, axis + 2):
            assert shape[side] == pytest.approx(picture[axis] + truth.box[side] * length, abs=1.5)


def test_groups_open_their_images(page: Page, data: PageData) -> None:
    groups = page.locator("#answer-1 .group")
    assert page.locator("#answer-1 .group:visible").count() == 8
    page.locator("#answer-1 summary", has_text="3 more").click()
    assert page.locator("#answer-1 .group:visible").count() == 11
    groups.last.locator("button").last.click()
    assert page.inner_text("#viewer-place") == "2 of 2"
    assert page.inner_text("#viewer-name") == data.gallery[data.answers[1].groups[-1].row_ids[-1]].name


def test_map_shows_and_opens_images(page: Page, data: PageData) -> None:
    page.locator("canvas").focus()
    page.keyboard.press("ArrowRight")
    first = min(range(60), key=lambda row: data.maps[0].points[row][0])
    assert page.locator(".map-card .card-name").inner_text() == data.gallery[first].name
    page.keyboard.press("Enter")
    assert page.inner_text("#viewer-name") == data.gallery[first].name
    page.keyboard.press("Escape")
    box = page.locator("canvas").bounding_box()
    assert box is not None
    across, up = data.maps[0].points[first]
    page.locator("canvas").hover(
        position={"x": 24 + across * (box["width"] - 48), "y": 24 + (1 - up) * (box["height"] - 48)}
    )
    assert page.locator(".map-card .card-name").inner_text() == data.gallery[first].name


def zoom_of(page: Page) -> float:
    return float(page.locator(".map-scale").inner_text().rstrip("×"))


def test_map_is_zoomed_and_moved(page: Page, data: PageData) -> None:
    canvas, out = page.locator("canvas"), page.get_by_role("button", name="Zoom out")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None
    assert out.is_disabled()
    place = (0.3 * box["width"], 0.6 * box["height"])
    page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    page.mouse.wheel(0, -300)
    page.wait_for_timeout(100)
    assert zoom_of(page) == 1, "the page is scrolled until the map is clicked"
    canvas.focus()
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + place[0], box["y"] + place[1])
    page.mouse.wheel(0, -800)
    page.locator(".map-scale", has_text="3.3×").wait_for()
    scale = math.exp(800 * 0.0015)
    near = min(range(60), key=lambda row: math.dist(at_rest(data, box, row), place))
    moved = [start + scale * (rest - start) for start, rest in zip(place, at_rest(data, box, near), strict=True)]
    canvas.hover(position={"x": moved[0], "y": moved[1]})
    assert page.locator(".map-card .card-name").inner_text() == data.gallery[near].name
    page.mouse.down()
    page.mouse.move(box["x"] + moved[0] - 40, box["y"] + moved[1] - 30, steps=4)
    page.mouse.up()
    assert page.locator("#viewer").is_hidden(), "to drag is not to click"
    canvas.hover(position={"x": moved[0] - 40, "y": moved[1] - 30})
    assert page.locator(".map-card .card-name").inner_text() == data.gallery[near].name
    canvas.click(position={"x": moved[0] - 40, "y": moved[1] - 30})
    assert page.inner_text("#viewer-name") == data.gallery[near].name
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Show all of the map").click()
    assert (zoom_of(page), out.is_disabled()) == (1, True)


def at_rest(data: PageData, box: Mapping[str, float], row: int) -> tuple[float, float]:
    """Where a point is on the whole map, in pixels."""
    across, up = data.maps[0].points[row]
    return 24 + across * (box["width"] - 48), 24 + (1 - up) * (box["height"] - 48)


def test_map_is_zoomed_by_keys_and_shows_what_is_marked(page: Page, data: PageData) -> None:
    canvas = page.locator("canvas")
    canvas.focus()
    for _ in range(4):
        page.keyboard.press("+")
    assert zoom_of(page) == pytest.approx(1.5**4, abs=0.1)
    page.keyboard.press("Shift+ArrowRight")
    for keys, pick in ((["ArrowRight"], min), (["Escape", "ArrowLeft"], max)):
        for key in keys:
            page.keyboard.press(key)
        row = pick(range(60), key=lambda row: data.maps[0].points[row][0])
        assert page.locator(".map-card .card-name").inner_text() == data.gallery[row].name
        box, card = canvas.bounding_box(), page.locator(".map-card").bounding_box()
        assert box is not None
        assert card is not None
        assert box["x"] <= card["x"] + card["width"] / 2 <= box["x"] + box["width"]
    page.keyboard.press("-")
    assert zoom_of(page) == pytest.approx(1.5**3, abs=0.1)
    page.keyboard.press("0")
    assert zoom_of(page) == 1


def test_map_draws_pictures_where_there_is_room(browser: Browser, report: tuple[PageData, Path]) -> None:
    with browser.served(report[1]) as address, browser.page(address) as page:
        page.locator("[data-map] label:has-text('pictures')").click()
        without = colours_on_map(page)
        page.locator("[data-map] label:has-text('pictures')").click()
        page.locator("canvas").scroll_into_view_if_needed()
        until = time.monotonic() + 20
        while colours_on_map(page) <= 2 * without:
            assert time.monotonic() < until, "the pictures are drawn once they are loaded"
            page.wait_for_timeout(50)
        page.locator("[data-map] button.chip").first.click()
        assert page.locator("[data-map] button.chip[aria-pressed=true]").count() == 1


def colours_on_map(page: Page) -> int:
    script = """() => {
        const { width, height } = document.querySelector("canvas");
        const pen = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        pen.drawImage(document.querySelector("canvas"), 0, 0);
        const { data } = pen.getImageData(0, 0, width, height);
        return new Set(new Uint32Array(data.buffer)).size;
    }"""
    return int(page.evaluate(script))


def test_hostile_names_are_only_texts(page: Page) -> None:
    assert page.locator("#tiles .tile-name").first.inner_text() == HOSTILE_NAME
    page.locator("#tiles button").first.click()
    assert page.inner_text("#viewer-name") == HOSTILE_NAME
    assert page.locator("#viewer a").count() == 0, "a link to a script is no link"
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("body > script").count() == 2
    assert HOSTILE_TEXT in page.text_content("#notes")
    assert HOSTILE_TEXT in page.text_content("#answer-0 .remarks")
    assert page.locator("#answer-0 .kinds h4").last.inner_text() == HOSTILE_TEXT
    assert page.locator("#answer-0 .mistake").last.inner_text().endswith(f"{HOSTILE_TEXT} 0.71")
    options = page.locator("#filter-label option").all_inner_texts()
    assert {option.rpartition(" (")[0] for option in options} >= set(HOSTILE_LABELS)


@pytest.mark.parametrize(("scheme", "rules"), [("light", []), ("dark", ["color-contrast"])])
def test_axe_has_no_serious_complaint(browser: Browser, tmp_path: Path, scheme: str, rules: list[str]) -> None:
    """In the dark only the colours are others."""
    (tmp_path / "index.html").write_text(
        render_page(sample_page(tmp_path, images=12, labels=16, points=60)), encoding="utf-8"
    )
    with browser.page((tmp_path / "index.html").as_uri(), scheme=scheme) as page:
        page.locator("canvas").focus()
        page.keyboard.press("ArrowRight")
        assert browser.complaints(page, *rules) == []
        page.locator("#tiles button").nth(2).click()
        assert browser.complaints(page, *rules, within="#viewer") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_no_width_overflows(browser: Browser, report: tuple[PageData, Path], scheme: str, width: int) -> None:
    with browser.page((report[1] / "index.html").as_uri(), scheme=scheme, width=width) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        page.locator("#tiles button").first.click()
        assert page.evaluate(
            "document.querySelector('#viewer').scrollWidth <= document.querySelector('#viewer').clientWidth"
        )
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (int(re.findall(r"\d+", ground)[0]) < 60) == (scheme == "dark")


def test_paper_is_light_and_has_nothing_for_a_hand(browser: Browser, report: tuple[PageData, Path]) -> None:
    with browser.page((report[1] / "index.html").as_uri(), scheme="dark", width=800) as page:
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for part in (".contents", ".filters", ".tools", ".map-zoom", ".by-hand", "#gallery-more"):
            assert page.locator(f"{part}:visible").count() == 0, part
        assert page.locator("#labels .scroll.tall").first.evaluate("(node) => node.scrollHeight <= node.clientHeight")
        assert page.locator("#labels tbody").first.locator("tr:visible").count() == 30
        assert page.evaluate("document.documentElement.scrollWidth") == 800


def test_a_web_server_serves_the_same(browser: Browser, report: tuple[PageData, Path]) -> None:
    with browser.served(report[1]) as address, browser.page(address) as page:
        wait_for_picture(page)
        assert gallery_counts(page)[0] == 60


def test_pictures_load_from_a_disk(page: Page) -> None:
    wait_for_picture(page)


def wait_for_picture(page: Page) -> None:
    page.locator("#tiles img").first.scroll_into_view_if_needed()
    script = """() => new Promise((done) => {
        const image = document.querySelector("#tiles img");
        if (image.complete) done(image.naturalWidth);
        image.onload = image.onerror = () => done(image.naturalWidth);
    })"""
    assert page.evaluate(script) > 0


def test_policy_stops_what_is_put_into_the_page(browser: Browser, report: tuple[PageData, Path]) -> None:
    """Also if a name were ever written into the page as it is."""
    with browser.page((report[1] / "index.html").as_uri(), quiet=False) as page:
        page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')")
        page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
        )
        assert page.evaluate("fetch('https://example.org').then(() => 'sent', () => 'refused')") == "refused"
        assert page.evaluate("window.ran === undefined")


def test_tables_are_there_without_a_script(browser: Browser, report: tuple[PageData, Path]) -> None:
    with browser.page((report[1] / "index.html").as_uri(), java_script=False) as page:
        assert page.locator("h1").inner_text() == report[0].head.title
        assert page.locator("#errors .card").count() == 2
        assert page.locator("#labels tbody tr").first.locator("th").inner_text() == report[0].labels[0].counts[0].label
        assert page.locator("#filter-label").is_hidden()


@pytest.mark.parametrize(("most_bytes", "images"), [(185_000, 60), (0, 1)])
def test_a_page_that_was_shortened(
    browser: Browser, report: tuple[PageData, Path], most_bytes: int, images: int
) -> None:
    data, folder = report
    shown, content = fit_page(data, most_bytes)
    assert shown.notes[-1].startswith("To keep the page small")
    (folder / "short.html").write_bytes(content)
    with browser.page((folder / "short.html").as_uri()) as page:
        assert gallery_counts(page) == expected_counts(
            shown, shown.gallery, [e for image in shown.gallery for e in image.elements]
        )
        assert len(shown.gallery) == images
        assert HOSTILE_NAME in page.locator("#tiles .tile-name").first.inner_text()
        page.locator("#tiles button").first.click()
        page.keyboard.press("Escape")


def test_a_run_with_nothing_in_it(browser: Browser, tmp_path: Path, data: PageData) -> None:
    empty = PageData(
        replace(data.head, models=[], facts=[], certificate=None, is_complete=False), [], [], [], [], [], [], []
    )
    (tmp_path / "index.html").write_text(render_page(empty), encoding="utf-8")
    with browser.page((tmp_path / "index.html").as_uri(), width=360) as page:
        assert page.locator("section").count() == 0
        assert page.locator(".verdict strong").inner_text() == "Not complete"
        assert browser.complaints(page) == []


def test_parts_with_nothing_in_them(browser: Browser, tmp_path: Path, data: PageData) -> None:
    """Such as a run of which no image can be read, or whose model gives no labels."""
    shares = [LabelShares("folder", [], [], [], []), LabelShares("folder", ["a"], [0], [], [[]])]
    image = replace(data.gallery[0], elements=[], thumbnail=None, width=None, height=None)
    bare = PageData(
        head=data.head,
        errors=[replace(data.errors[0], examples=[])],
        skipped=[],
        labels=[LabelSection("empty", "detection", [], 0, shares, ScoreHistogram([0] * 20, {}))],
        gallery=[image],
        maps=[EmbeddingMap("none", "PCA", [], [], [], []), EmbeddingMap("one", "PCA", [7], [(0.5, 0.5)], [], [-1])],
        answers=[
            AnswerSection("none", "Nothing", ""),
            AnswerSection(
                "bare",
                "Bare",
                "Nothing to show.",
                tables=[DataTable("Empty", ["one"], [])],
                matrices=[
                    Matrix("Empty", "truth", "predicted", [], [], [], {}),
                    Matrix("Zero", "a", "b", ["x"], ["y"], [[0.0]], {}),
                ],
                plots=[Plot("Empty", "x", "y", {}), Plot("Flat", "x", "y", {"one": [(0.0, 0.0)]})],
                groups=[ImageGroup("Gone", [99])],
            ),
        ],
        notes=[],
    )
    (tmp_path / "index.html").write_text(render_page(bare), encoding="utf-8")
    with browser.page((tmp_path / "index.html").as_uri()) as page:
        assert "No image has a label of this model." in page.inner_text("#labels")
        assert page.locator("#labels table, .histogram").count() == 0
        page.locator("canvas").nth(1).focus()
        page.keyboard.press("ArrowRight")
        page.locator("#tiles button").click()
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#viewer-place") == "1 of 1"
        assert browser.complaints(page) == []
