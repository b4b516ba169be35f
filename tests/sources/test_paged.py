"""Each page is a row exactly once: of files on a disk, in archives, in buckets and on the web; and stays it."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pytest
from PIL import Image

from cvbatch.config.job import SourceConfig
from cvbatch.edits.names import find_relative_paths
from cvbatch.errors import RowError, SourceError, capture_row_error
from cvbatch.images.decode import decode
from cvbatch.results.committed import open_output
from cvbatch.sources import open_source
from cvbatch.sources.entries import identity_keys
from cvbatch.sources.fetch.plan_rows import plan_fetches
from cvbatch.sources.paged import PagedSource
from cvbatch.storage.fetch_options import FetchOptions
from cvbatch.storage.http_hosts import HttpOptions
from tests.edits.made_runs import made_run
from tests.planning.test_update_containers import Run, rows_of
from tests.rigs.objects import ObjectServer
from tests.rigs.web import Web, answer
from tests.samples import job
from tests.sources.shards import fetched, kinds, planned, source, tar, zipped

LATER: Final = 1_900_000_000


def picture(shade: int) -> Image.Image:
    return Image.new("RGB", (20, 10), (shade, 0, 0))


def file_of(count: int, kind: str = "TIFF", first: int = 0) -> bytes:
    """Pages of one colour each: 10 more red on each."""
    stream = io.BytesIO()
    images = [picture(first + 10 * number) for number in range(count)]
    images[0].save(stream, kind, save_all=count > 1, append_images=images[1:])
    return stream.getvalue()


def shades(table: pa.Table) -> list[int | str]:
    """How red each row is, or the type of its error."""
    return [
        data if isinstance(data, str) else decode(data, max_pixels=10**6).image.getpixel((0, 0))[0]  # type: ignore[index]
        for data in kinds(table)
    ]


def uris_below(folder: Path, table: pa.Table) -> list[str]:
    return [os.path.relpath(uri, folder) for uri in table["image_uri"].to_pylist()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.gif").write_bytes(file_of(2, "GIF"))
    (folder / "b.png").write_bytes(file_of(1, "PNG", 70))
    (folder / "c.tif").write_bytes(file_of(3))
    return folder


def test_pages_become_rows_in_the_order_of_the_files(folder: Path) -> None:
    table = planned(source(folder, pages="all"))
    wanted = ["a.gif#page=1", "a.gif#page=2", "b.png", "c.tif#page=1", "c.tif#page=2", "c.tif#page=3"]
    assert uris_below(folder, table) == wanted
    assert shades(table) == [0, 10, 70, 0, 10, 20]
    assert len(set(identity_keys(table))) == len(wanted)
    sizes = dict(zip(wanted, table["image_bytes"].to_pylist(), strict=True))
    assert sizes["a.gif#page=2"] == 20 * 10 * 4, "as large as it becomes, so that units stay small"
    assert sizes["b.png"] == (folder / "b.png").stat().st_size
    assert sizes["c.tif#page=3"] == (folder / "c.tif").stat().st_size // 3


def test_files_of_very_many_pages_come_in_several_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "4")
    for number in range(3):
        (tmp_path / f"{number}.gif").write_bytes(file_of(3, "GIF"))
    chunks = list(source(tmp_path, pages="all").iter_chunks())
    assert [chunk.num_rows for chunk in chunks] == [4, 4, 1]
    assert uris_below(tmp_path, pa.concat_tables(chunks)) == [
        f"{file}.gif#page={page}" for file in range(3) for page in (1, 2, 3)
    ]


def test_by_default_a_file_is_one_row(folder: Path) -> None:
    opened = source(folder)
    assert not isinstance(opened, PagedSource)
    assert uris_below(folder, planned(opened)) == ["a.gif", "b.png", "c.tif"]


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_pages_of_members(tmp_path: Path, name: str) -> None:
    members = {"d/c.tif": file_of(3), "b.png": file_of(1, "PNG", 70), "a.gif": file_of(2, "GIF")}
    (zipped if name.endswith("zip") else tar)(tmp_path / name, members)
    table = planned(source(tmp_path / name, pages="all"))
    inside = ["d/c.tif#page=1", "d/c.tif#page=2", "d/c.tif#page=3", "b.png", "a.gif#page=1", "a.gif#page=2"]
    assert uris_below(tmp_path, table) == [f"{name}#{member}" for member in inside]
    assert shades(table) == [0, 10, 20, 70, 0, 10]
    assert shades(table.take([4, 1])) == [0, 10]


def test_pages_of_objects(object_server: ObjectServer, as_job: ObjectServer) -> None:
    bucket = object_server.make_bucket("images")
    object_server.put(bucket, {"a.tif": file_of(3), "b.jpg": file_of(1, "JPEG", 70), "c.gif": file_of(2, "GIF")})
    config = SourceConfig(uri=f"s3://{bucket}", endpoint_url=object_server.endpoint, pages="all")
    opened = open_source(config)
    marked = [(table.num_rows, mark is not None) for table, mark in opened.iter_marked_chunks()]  # type: ignore[attr-defined]
    assert sum(rows for rows, _ in marked) == 6
    table = planned(opened)
    names = [uri.rpartition("/")[2] for uri in table["image_uri"].to_pylist()]
    assert names == ["a.tif#page=1", "a.tif#page=2", "a.tif#page=3", "b.jpg", "c.gif#page=1", "c.gif#page=2"]
    data = [fetch() for fetch in plan_fetches(table, FetchOptions(config.storage_options))]
    assert [decode(page, max_pixels=10**6).format for page in data] == ["tiff"] * 3 + ["jpeg"] + ["png"] * 2


def test_a_listing_with_pages_goes_on_where_it_was(
    object_server: ObjectServer, as_job: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "2")
    monkeypatch.setenv("CVBATCH_LISTING_PAGE_KEYS", "2")
    bucket = object_server.make_bucket("images")
    object_server.put(bucket, {f"{number}.tif": file_of(2) for number in range(5)})
    opened = open_source(SourceConfig(uri=f"s3://{bucket}", endpoint_url=object_server.endpoint, pages="all"))
    assert isinstance(opened, PagedSource)
    steps = [(table["image_uri"].to_pylist(), mark) for table, mark in opened.iter_marked_chunks()]
    whole = [uri for uris, _ in steps for uri in uris]
    assert len(whole) == len(set(whole)) == 10
    position, mark = next((position, mark) for position, (_, mark) in enumerate(steps) if mark is not None)
    rest = [uri for table, _ in opened.iter_marked_chunks(mark) for uri in table["image_uri"].to_pylist()]
    assert [uri for uris, _ in steps[: position + 1] for uri in uris] + rest == whole


def test_pages_of_the_web(tmp_path: Path, web: Web) -> None:
    web.pages["/a.tif"] = answer(file_of(3))
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"uri,note\nhttp://127.0.0.1:{web.port}/a.tif,x\n{tmp_path}/b.gif,y\n")
    (tmp_path / "b.gif").write_bytes(file_of(2, "GIF"))
    hosts = (f"127.0.0.1:{web.port}",)
    table = planned(source(manifest, pages="all", http_hosts=hosts, http_private=True))
    assert [uri.rpartition("/")[2] for uri in table["image_uri"].to_pylist()] == [
        "a.tif#page=1", "a.tif#page=2", "a.tif#page=3", "b.gif#page=1", "b.gif#page=2",
    ]  # fmt: skip
    assert table["note"].to_pylist() == ["x"] * 3 + ["y"] * 2
    asked = len(web.asked)
    data = [fetch() for fetch in plan_fetches(table, FetchOptions(http=HttpOptions(hosts, private=True)))]
    assert len(web.asked) == asked + 1, "one request for all pages"
    assert [decode(page, max_pixels=10**6).image.getpixel((0, 0))[0] for page in data] == [0, 10, 20, 0, 10]  # type: ignore[index]


def test_a_file_that_is_called_like_a_page_is_another_row(folder: Path) -> None:
    (folder / "c.tif#page=2").write_bytes(file_of(1, "PNG", 200))
    table = planned(source(folder, pages="all", extensions="any"))
    uris = uris_below(folder, table)
    assert uris.count("c.tif#page=2") == 2
    assert len(set(identity_keys(table))) == len(uris)
    assert sorted(shade for uri, shade in zip(uris, shades(table), strict=True) if uri == "c.tif#page=2") == [10, 200]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"\xff.tif")
    with open(path, "wb") as file:
        file.write(file_of(2))
    table = planned(source(tmp_path, pages="all"))
    assert uris_below(tmp_path, table) == ["\\xff.tif#page=1", "\\xff.tif#page=2"]
    assert shades(table) == [0, 10]


def test_what_cannot_be_counted_is_one_row(folder: Path) -> None:
    (folder / "d.tif").symlink_to(folder / "nothing.tif")
    (folder / "e.gif").write_bytes(file_of(4, "GIF"))
    (folder / "f.tif").write_bytes(b"no picture")
    (folder / "g.tif").write_bytes(file_of(3)[:760])
    opened = source(folder, pages="all", max_pages=3)
    table = planned(opened).slice(6)
    assert uris_below(folder, table) == ["d.tif", "e.gif", "f.tif", "g.tif"]
    errors = [(error.stage, error.type) if not isinstance(error, bytes) else "bytes" for error in fetched(table)]
    assert errors == [("list", "NotFound"), ("list", "TooManyPages"), "bytes", "bytes"]
    assert opened.listing.lost == 2
    assert sorted(os.path.basename(path) for path in opened.listing.unreadable) == ["d.tif", "e.gif", "g.tif"]
    reason = opened.listing.unreadable[str(folder / "e.gif")]
    assert reason == "more than 3 pages; raise source.max_pages, or leave it out by source.exclude"


def test_a_damaged_page_is_an_error_of_its_own(tmp_path: Path) -> None:
    data = file_of(3)
    (tmp_path / "a.tif").write_bytes(data)
    table = planned(source(tmp_path, pages="all"))
    (tmp_path / "a.tif").write_bytes(data[: len(data) * 2 // 3])
    first, *_, last = fetched(table)
    assert isinstance(first, bytes)
    assert not isinstance(last, bytes)
    assert (last.stage, last.type, last.transient) == ("decode", "TruncatedImage", False)
    (tmp_path / "a.tif").unlink()
    assert kinds(table) == ["NotFound"] * 3


def test_a_file_that_gains_pages(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.tif"
    path.parent.mkdir()
    times = iter(range(LATER, LATER + 99))

    def write(data: bytes) -> None:
        path.write_bytes(data)
        os.utime(path, (seconds := next(times), seconds))

    write(file_of(2))
    run = Run(path.parent, tmp_path / "out", pages="all")
    _, done = run.update()
    assert list(done) == [0, 1]
    write(file_of(4))
    log, done = run.update()
    assert list(done) == [2, 3], "pages that were there are not computed again"
    write(file_of(2) + bytes(2))
    log, done = run.update()
    assert (done, rows_of(log.state.removed)) == ({}, [2, 3])
    write(file_of(2, first=100))
    log, done = run.update()
    assert list(done) == [0, 1]
    write(file_of(1, first=100))
    log, done = run.update()
    assert (list(done), rows_of(log.state.removed)) == ([4], [0, 1, 2, 3]), "a file of one page has its own name"


def test_pages_of_a_file_that_cannot_be_counted_any_more_stay(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.tif"
    path.parent.mkdir()
    path.write_bytes(file_of(3))
    run = Run(path.parent, tmp_path / "out", pages="all", max_pages=3)
    run.update()
    path.write_bytes(file_of(4))
    log, done = run.update()
    assert done == {3: "TooManyPages"}
    assert rows_of(log.state.removed) == []


def test_the_limit_of_bytes_is_that_of_the_file(folder: Path, tmp_path: Path) -> None:
    table = planned(source(folder, pages="all", max_bytes=1000))
    assert uris_below(folder, table) == ["a.gif#page=1", "a.gif#page=2", "b.png"], "the TIFF is skipped"
    largest = (folder / "a.gif").stat().st_size
    assert all(len(fetch()) > largest for fetch in plan_fetches(table.slice(0, 2), FetchOptions(max_bytes=largest)))
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"uri\n{folder}/c.tif\n")
    table = planned(source(manifest, pages="all"))
    errors = [capture_row_error("fetch", fetch) for fetch in plan_fetches(table, FetchOptions(max_bytes=1000))]
    assert [error.type for error in errors if isinstance(error, RowError)] == ["TooManyBytes"] * 3


def test_a_limit_counts_pages(folder: Path, tmp_path: Path) -> None:
    run = Run(folder, tmp_path / "out", pages="all", limit=4)
    assert run.plan.rows == 4
    assert not run.plan.complete


def test_several_sources_list_a_page_once(folder: Path) -> None:
    opened = open_source(SourceConfig(uri=(str(folder), str(folder / "c.tif")), pages="all"))
    assert len(planned(opened)) == 6


def test_a_run_of_pages_is_another_run(folder: Path) -> None:
    assert "pages" not in job(folder).identity()["source"]
    assert job(folder, source={"pages": "all"}).identity()["source"]["pages"] == "all"


@pytest.mark.parametrize(("key", "value"), [("pages", "some"), ("max_pages", 0)])
def test_values_are_checked(folder: Path, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=key):
        SourceConfig(uri=str(folder), **{key: value})


def test_edited_pages_get_files_of_their_own(folder: Path, tmp_path: Path) -> None:
    tar(folder / "d.tar", {"x/a.gif": file_of(2, "GIF")})
    output = made_run(str(folder), str(tmp_path / "out"), lambda *_: [], source={"pages": "all"})
    opened = open_output(output)
    paths = find_relative_paths(opened, 8).of_rows(
        planned(source(folder, pages="all")).add_column(0, "row_id", pa.array(range(8)))
    )
    assert paths == [
        "a.gif/page-1.png", "a.gif/page-2.png", "b.png", "c.tif/page-1.tif", "c.tif/page-2.tif", "c.tif/page-3.tif",
        "d.tar/x/a.gif/page-1.png", "d.tar/x/a.gif/page-2.png",
    ]  # fmt: skip


def test_an_empty_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(SourceError, match="holds no images"):
        Run(tmp_path / "in", tmp_path / "out", pages="all")
