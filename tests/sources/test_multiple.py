"""Several sources as one: in their order, each image once, none lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.sources import open_source
from cvbatch.sources.entries import ImageSource, ResumableSource
from cvbatch.sources.multiple import MultipleSources
from tests.rigs.objects import ObjectServer
from tests.sources.shards import kinds, planned, tar, zipped


def several(*uris: Path | str, **options: Any) -> ImageSource:
    return open_source(SourceConfig(uri=[str(uri) for uri in uris], **options))


@pytest.fixture
def here(tmp_path: Path) -> Path:
    for name in ("b/1.jpg", "b/sub/2.jpg", "a/3.jpg", "a/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    tar(tmp_path / "x.tar", {"4.jpg": b"4", "4.json": b'{"n": 4}'})
    zipped(tmp_path / "y.zip", {"5.jpg": b"5", "5.json": b'{"n": 5, "more": 1}'})
    return tmp_path


def test_sources_are_listed_in_their_order(here: Path) -> None:
    opened = several(here / "b", here / "x.tar", here / "a")
    for _ in range(2):
        assert kinds(planned(opened)) == [b"b/1.jpg", b"b/sub/2.jpg", b"4", b"a/3.jpg"]
        assert opened.listing.skipped == {".txt": 1}
    assert opened.extra_columns.names == [], "the first decides, and plain images bring nothing"


def test_the_first_source_decides_the_extra_columns(here: Path) -> None:
    table = planned(several(here / "x.tar", here / "y.zip", here / "a"))
    assert table["n"].to_pylist() == [4, 5, None]
    assert "more" not in table.column_names


@pytest.mark.parametrize(
    ("uris", "rows", "twice"),
    [
        (["b", "b"], 2, 2),
        (["b", "b/sub"], 2, 1),
        (["b/sub", "b"], 2, 1),
        (["b/*.jpg", "b"], 2, 1),
        (["b/**/*.jpg", "b/sub/2.jpg"], 2, 1),
        (["x.tar", "."], 5, 1),
        (["b", "a"], 3, 0),
    ],
)
def test_an_image_in_two_sources_is_one_row(here: Path, uris: list[str], rows: int, twice: int) -> None:
    opened = several(*(here / uri for uri in uris))
    table = planned(opened)
    assert table.num_rows == len(set(table["image_uri"].to_pylist())) == rows
    assert opened.listing.skipped["listed twice"] == twice


def test_a_source_without_images_is_an_error(here: Path) -> None:
    (here / "empty").mkdir()
    with pytest.raises(SourceError, match=r"empty holds no images, and is one of 2 sources"):
        planned(several(here / "a", here / "empty"))
    with pytest.raises(SourceError, match=r"nope: no such file or folder"):
        several(here / "a", here / "nope")


def test_manifests_and_other_sources_cannot_be_mixed(here: Path) -> None:
    (here / "m.csv").write_text("uri,x\na/3.jpg,1\na/3.jpg,2\n")
    (here / "n.csv").write_text("y,uri,x\n5,b/1.jpg,3\n")
    pq.write_table(pa.table({"uri": ["b/1.jpg"], "x": [3]}), here / "n.parquet")
    opened = several(here / "m.csv", here / "n.csv")
    table = planned(opened)
    assert opened.positional
    assert table.select(["x", "y"]).to_pydict() == {"x": ["1", "2", "3"], "y": [None, None, "5"]}
    assert kinds(table) == [b"a/3.jpg", b"a/3.jpg", b"b/1.jpg"]
    with pytest.raises(SourceError, match=r"m\.csv is a manifest and .*/a is not: expected only manifests, or none"):
        several(here / "a", here / "m.csv")
    with pytest.raises(SourceError, match=r"n\.parquet: the column 'x' is int64, and in the manifests before string"):
        several(here / "m.csv", here / "n.parquet")


def test_a_manifest_named_twice_is_refused(here: Path) -> None:
    for name in ("m", "n"):
        (here / f"{name}.csv").write_text("uri\na/3.jpg\n")
    (here / "link.csv").symlink_to(here / "m.csv")
    assert kinds(planned(several(here / "m.csv", here / "n.csv"))) == [b"a/3.jpg"] * 2
    for again in ("m.csv", "../" + here.name + "/m.csv", "link.csv"):
        with pytest.raises(SourceError, match=r"\.csv is named twice, so each line would become two rows"):
            several(here / "m.csv", here / "n.csv", here / again)


def test_a_link_to_another_source_is_refused(here: Path) -> None:
    (here / "link").symlink_to(here / "b")
    for pair in ((here / "b", here / "link"), (here / "link/sub", here / "b"), (here / "link", here / "b/sub/2.jpg")):
        with pytest.raises(
            SourceError, match="lead to the same folder, so each image would become two rows: name it once"
        ):
            several(*pair)
    assert len(kinds(planned(several(here / "link", here / "a")))) == 3


def test_columns_of_manifests_that_differ_only_in_case(here: Path) -> None:
    (here / "m.csv").write_text("uri,x\na/3.jpg,1\n")
    (here / "n.csv").write_text("uri,X\nb/1.jpg,2\n")
    with pytest.raises(SourceError, match=r"n\.csv: the column 'X' is 'x' in the manifests before.*metadata: off"):
        several(here / "m.csv", here / "n.csv")
    assert kinds(planned(several(here / "m.csv", here / "n.csv", metadata="off"))) == [b"a/3.jpg", b"b/1.jpg"]


@pytest.mark.usefixtures("as_job")
def test_a_listing_resumes_in_its_current_source(
    here: Path, object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVBATCH_CHUNK_ROWS", "2")
    bucket = object_server.make_bucket("images")
    object_server.put(bucket, {f"p/{number}/{item}.jpg": b"x" for number in range(3) for item in range(3)})

    def opened() -> MultipleSources:
        source = several(here / "a", f"s3://{bucket}/p", here / "b", endpoint_url=object_server.endpoint)
        assert isinstance(source, MultipleSources)
        assert isinstance(source, ResumableSource)
        return source

    def uris(pairs: list[tuple[pa.Table, Any]]) -> list[str]:
        return [uri for chunk, _ in pairs for uri in chunk["image_uri"].to_pylist()]

    whole = opened()
    pairs = list(whole.iter_marked_chunks())
    assert len(uris(pairs)) == 1 + 9 + 2
    marks = [index for index, (_, mark) in enumerate(pairs) if mark is not None]
    assert marks
    for index in marks:
        later = opened()
        mark = json.loads(json.dumps(pairs[index][1]))
        assert uris(list(later.iter_marked_chunks(mark))) == uris(pairs[index + 1 :])
        assert later.listing.skipped == whole.listing.skipped == {".txt": 1}
    overlapping = several(here / "a", f"s3://{bucket}/p", f"s3://{bucket}/p/1", endpoint_url=object_server.endpoint)
    assert isinstance(overlapping, ResumableSource)
    assert all(mark is None for _, mark in overlapping.iter_marked_chunks()), (
        "what was listed before is not known later"
    )
