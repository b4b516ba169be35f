"""Prefetch of remote images: concurrent, with a limit for the bytes in memory."""

from __future__ import annotations

import json
import pickle
import time
from pathlib import Path

import pyarrow as pa

from cvbatch.config.job import SourceConfig
from cvbatch.errors import RowError, capture_row_error
from cvbatch.images.preprocess import View
from cvbatch.sources import open_source
from cvbatch.sources.fetch.plan_rows import plan_fetches
from cvbatch.sources.fetch.prefetch import Prefetcher
from cvbatch.stages.decode import DecodeOptions, fetch_and_decode
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.http_hosts import HttpOptions
from tests.conftest import make_photo
from tests.rigs.web import Names, Say, Web, answer


def reach(web: Web) -> FetchOptions:
    return FetchOptions(http=HttpOptions((f"127.0.0.1:{web.port}",), private=True))


def nobody() -> None:
    """Ignore changed versions."""


def url(web: Web, number: int) -> bytes:
    return f"http://127.0.0.1:{web.port}/{number}.jpg".encode()


def test_requests_start_immediately(web: Web) -> None:
    for number in range(100):
        web.pages[f"/{number}.jpg"] = answer(b"%d" % number)
    ahead = Prefetcher(reach(web))
    waiting = [ahead.prefetch_image(url(web, number), None, nobody) for number in range(100)]
    while len(web.asked) < 100:
        time.sleep(0.01)
    assert [wait() for wait in waiting] == [b"%d" % number for number in range(100)]


def test_held_bytes_are_bounded(web: Web) -> None:
    """Sizes are unknown in advance: all thousand images of a unit could be large."""
    for number in range(30):
        web.pages[f"/{number}.jpg"] = answer(b"0123456789")
    ahead = Prefetcher(reach(web), max_requests=4, max_bytes=20)
    waiting = [ahead.prefetch_image(url(web, number), None, nobody) for number in range(30)]
    for selected, wait in enumerate(waiting):
        assert wait() == b"0123456789"
        time.sleep(0.02)
        assert len(web.asked) <= selected + 1 + 2 + 4


def test_an_image_requested_out_of_order(web: Web) -> None:
    for number in range(4):
        web.pages[f"/{number}.jpg"] = answer(b"%d" % number)
    ahead = Prefetcher(reach(web), max_requests=1, max_bytes=1)
    waiting = [ahead.prefetch_image(url(web, number), None, nobody) for number in range(4)]
    assert [wait() for wait in reversed(waiting)] == [b"3", b"2", b"1", b"0"]


def test_failures_free_their_slot(web: Web) -> None:
    ahead = Prefetcher(reach(web), max_requests=2)
    waiting = [capture_row_error("fetch", ahead.prefetch_image(url(web, number), None, nobody)) for number in range(10)]
    assert {wait.type for wait in waiting if isinstance(wait, RowError)} == {"NotFound"}


def planned(folder: Path, lines: list[str | None], **options: object) -> tuple[pa.Table, FetchOptions]:
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(json.dumps({"uri": line}) + "\n" for line in lines))
    config = SourceConfig.model_validate({"uri": str(manifest), **options})
    return pa.concat_tables(open_source(config).iter_chunks()), config.fetch_options


def test_images_of_a_manifest(tmp_path: Path, web: Web, names: Names) -> None:
    photo = make_photo(tmp_path / "a.jpg").read_bytes()
    web.pages["/a.jpg?w=1"] = answer(photo)
    base = f"http://images.example:{web.port}"
    lines = [f"{base}/a.jpg?w=1", "a.jpg", f"{base}/none.jpg", "http://other.example/a.jpg", None]
    hosts = [f"images.example:{web.port}"]
    rows, how = planned(tmp_path, lines, http_hosts=hosts, http_private=True)
    assert rows["image_uri"].to_pylist() == [lines[0], str(tmp_path / "a.jpg"), *lines[2:4], ""]
    options = DecodeOptions((View(),), 10_000, fetch_options=pickle.loads(pickle.dumps(how)))
    done = fetch_and_decode(rows, options)
    assert done["error_type"].to_pylist() == [None, None, "NotFound", "HostNotAllowed", "NoLocation"]
    assert done["content_sha256"][0] == done["content_sha256"][1]
    assert "source.http_hosts" in done["error_message"][3].as_py()


def test_the_web_is_off_unless_hosts_are_listed(tmp_path: Path, web: Web) -> None:
    web.pages["/a.jpg"] = answer(b"x")
    rows, how = planned(tmp_path, [f"http://127.0.0.1:{web.port}/a.jpg"], http_private=True)
    [read] = plan_fetches(rows, how)
    result = capture_row_error("fetch", read)
    assert isinstance(result, RowError)
    assert (result.type, web.asked) == ("HostNotAllowed", [])


SECRETS = [
    "https://me:s3cret@example.org/a.jpg",
    "https://example.org/a.jpg?X-Amz-Credential=me&X-Amz-Signature=s3cret",
    "https://example.org/a.jpg?se=2026&sig=s3cret",
    "HTTP://example.org/a.jpg?token=s3cret",
    "s3://bucket/a.jpg?X-Amz-Signature=s3cret",
    "ftp://me:s3cret@example.org/a.jpg",
]


def test_no_secret_reaches_the_plan(tmp_path: Path) -> None:
    rows, how = planned(tmp_path, [*SECRETS, "b.jpg"], http_hosts=["example.org"])
    assert "s3cret" not in str(rows.to_pydict())
    result = [capture_row_error("fetch", read) for read in plan_fetches(rows, how)]
    assert [error.type for error in result if isinstance(error, RowError)] == ["SecretInUri"] * 6 + ["NotFound"]
    assert "s3cret" not in str(result)
    assert rows["image_uri"][0].as_py() == "https://…@example.org/a.jpg"


def test_max_bytes_applies_to_every_kind_of_location(tmp_path: Path, web: Web) -> None:
    web.pages["/a.jpg"], web.pages["/b.jpg"] = answer(b"x" * 11), answer(b"x" * 10)
    (tmp_path / "a.jpg").write_bytes(b"x" * 11)
    base = f"http://127.0.0.1:{web.port}"
    lines: list[str | None] = [f"{base}/a.jpg", f"{base}/b.jpg", "a.jpg"]
    rows, how = planned(tmp_path, lines, http_hosts=[f"127.0.0.1:{web.port}"], http_private=True, max_bytes=10)
    result = [capture_row_error("fetch", read) for read in plan_fetches(rows, how)]
    assert [error.type if isinstance(error, RowError) else error for error in result] == [
        "TooManyBytes",
        b"x" * 10,
        "TooManyBytes",
    ]


def test_slow_images_do_not_wait_for_each_other(web: Web) -> None:
    """A barrier: no response is sent before all images are requested."""

    def when_all_are_there(say: Say) -> None:
        while len(web.asked) < 20:
            time.sleep(0.01)
        answer(b"x")(say)

    for number in range(20):
        web.pages[f"/{number}.jpg"] = when_all_are_there
    ahead = Prefetcher(reach(web))
    waiting = [ahead.prefetch_image(url(web, number), None, nobody) for number in range(20)]
    assert [wait() for wait in waiting] == [b"x"] * 20
