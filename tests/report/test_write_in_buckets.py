"""A report in a bucket, of images in a bucket, as a browser opens it from the bucket's address."""

from __future__ import annotations

from pathlib import Path

import pytest

import cvbatch
from cvbatch.output.commit_log import CommitLog
from cvbatch.results.verify import verify_output
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from tests.report.runs import NASTY_NAME, SIZE, SmallRun, photo_folder, small_run
from tests.rigs.browser import Page, open_browser
from tests.rigs.objects import ObjectServer

pytestmark = pytest.mark.usefixtures("as_job")
NAMES = [NASTY_NAME.encode(), *(f"{'ab'[row % 2]}/{row:02d}.jpg".encode() for row in range(11))]


def bucket_run(tmp_path: Path, server: ObjectServer) -> tuple[SmallRun, str, str]:
    """A run whose images and output are in buckets: these are named, and anybody may read the output."""
    photos = Path(photo_folder(tmp_path, NAMES))
    images, out = server.make_bucket("images"), server.make_bucket("out-open")
    server.put(images, {f"p/{path.relative_to(photos)}": path.read_bytes() for path in photos.rglob("*.jpg")})
    source = {"uri": f"s3://{images}/p/", "endpoint_url": server.endpoint}
    place = Location(f"s3://{out}/run", StorageOptions(endpoint_url=server.endpoint))
    return small_run(tmp_path, NAMES, source=source, place=place), images, out


def widths_of_pictures(page: Page, selector: str) -> list[int]:
    """Once they are there; a picture that cannot be shown is an error."""
    script = """(selector) => Promise.all([...document.querySelectorAll(selector)].map(async (image) => {
        image.loading = "eager";
        await image.decode();
        return image.naturalWidth;
    }))"""
    widths: list[int] = page.evaluate(script, selector)
    return widths


def test_a_browser_opens_a_report_from_its_bucket(tmp_path: Path, object_server: ObjectServer) -> None:
    run, _, bucket = bucket_run(tmp_path, object_server)
    storage = {"endpoint_url": object_server.endpoint}
    answer = cvbatch.write_report(run.output, storage=storage)
    assert answer.path == f"s3://{bucket}/run/_report/index.html"
    assert (answer.link, answer.images, answer.drawn) == (None, 12, 12)
    address = f"{object_server.endpoint}/{bucket}/run/_report/index.html"
    with open_browser() as browser, browser.page(address) as page:
        assert page.locator("#tiles .tile").count() == 12
        assert page.locator("#tiles .tile-name", has_text=NASTY_NAME).count() == 1
        assert widths_of_pictures(page, "#tiles img") == [SIZE[0]] * 12
        page.locator("#tiles button").first.click()
        assert widths_of_pictures(page, "#viewer img") == [SIZE[0]]
    again = cvbatch.write_report(run.output, storage=storage)
    assert (again.drawn, again.removed) == (0, 0)
    verdict = verify_output(run.opened.store, CommitLog(run.opened.store, run.opened.plan.rows))
    assert verdict.strays == [], "a report belongs to no record, and is no stray file"


def test_images_that_are_gone_from_their_bucket(tmp_path: Path, object_server: ObjectServer) -> None:
    run, images, bucket = bucket_run(tmp_path, object_server)
    storage = {"endpoint_url": object_server.endpoint}
    object_server.empty(images)
    answer = cvbatch.write_report(run.output, to=f"s3://{bucket}/page", storage=storage)
    assert (answer.images, answer.thumbnails) == (12, 0)
    (note,) = answer.notes
    assert note.startswith("No image can be read any more, so there are no pictures: NotFound: ")
    assert list(object_server.content(bucket, "page/")) == ["page/index.html"]
