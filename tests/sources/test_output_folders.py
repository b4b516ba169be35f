"""Outputs of cvbatch within a source are skipped and counted, at any depth and from any run."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvbatch.config.job import SourceConfig
from cvbatch.errors import SourceError
from cvbatch.output import manifest
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import make_plan
from cvbatch.sources import open_source
from cvbatch.sources.output_folders import OUTPUT, OWN, REPORT
from tests.rigs.objects import ObjectServer
from tests.samples import commit, job, planned_in, spec, started
from tests.sources.shards import planned, source


def wrote(folder: Path) -> Path:
    """Files of a finished run with its report, plus an image in its data folder, which no run writes."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as elsewhere:
        plan = planned_in(LocalStore(str(folder)), Path(elsewhere), 2)
    log = started(LocalStore(str(folder)), plan.rows)
    commit(log, 0, 2)
    manifest.finish_run(log)
    pq.write_table(pa.table({"image": [b"not for us"]}), folder / "data/images.parquet")
    (folder / REPORT).mkdir()
    (folder / REPORT / "thumbnail.webp").touch()
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("photos/a.jpg", "photos/sub/b.jpg", "photos/sub/deep/c.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def names(uri: Path | str, top: Path) -> tuple[list[str], int]:
    """The listed images and the number of skipped outputs."""
    opened = source(uri, extensions="any")
    uris = planned(opened)["image_uri"].to_pylist() if opened.listing is not None else []
    return [uri.removeprefix(f"{top}/") for uri in uris], opened.listing.skipped[OUTPUT]


ALL = ["a.jpg", "sub/b.jpg", "sub/deep/c.jpg"]


def test_names_that_a_run_writes(tmp_path: Path) -> None:
    written = {path.name for path in wrote(tmp_path / "out").iterdir()}
    assert {name for name in written if not name.startswith(".")} == OWN


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", ALL),
        ("**", ALL),
        ("**/*.*", ALL),
        ("*", ALL),
        ("sub/*", ["sub/b.jpg", "sub/deep/c.jpg"]),
        ("sub/**/*", ["sub/b.jpg", "sub/deep/c.jpg"]),
        ("*/*/*.jpg", ["sub/deep/c.jpg"]),
    ],
)
def test_outputs_below_the_source(photos: Path, pattern: str, expected: list[str]) -> None:
    output = wrote(photos / "sub/labels")
    (output / "picture.jpg").touch()
    result, left_out = names(photos / pattern, photos)
    assert result == expected
    assert left_out == 1


def test_a_glob_into_an_output(photos: Path) -> None:
    wrote(photos / "labels")
    for pattern in ("labels/*/*.parquet", "*/*/*.parquet", "**/*.parquet", "l*/data/*", "labels/**/*.parquet"):
        assert names(photos / pattern, photos) == ([], 1), pattern


@pytest.mark.parametrize(
    "part", ["data", "data/*.parquet", "data/images.parquet", "_cvbatch", "_cvbatch/**/*", "_report"]
)
def test_a_source_that_is_a_part_of_an_output_is_refused(photos: Path, part: str) -> None:
    wrote(photos / "labels")
    with pytest.raises(
        SourceError, match=r"labels, which is an output of cvbatch and holds no images: name the images"
    ):
        source(photos / "labels" / part)


def test_images_beside_what_a_run_wrote_into_the_source_itself(photos: Path) -> None:
    wrote(photos)
    assert names(photos, photos) == (ALL, 1)
    assert names(photos / "**/*", photos) == (ALL, 1)
    assert names(photos / "*", photos) == (ALL, 1)


def test_an_output_alone_is_no_source(tmp_path: Path) -> None:
    asked = job(wrote(tmp_path / "out"), tmp_path / "new")
    with pytest.raises(SourceError, match=r"out holds no images \(other files skipped: 1 output of cvbatch\)"):
        make_plan(LocalStore(str(tmp_path / "new")), asked, [spec()], open_source(asked.source))


def test_folders_that_are_only_called_data(photos: Path) -> None:
    (photos / "data").mkdir()
    (photos / "data/d.jpg").touch()
    assert names(photos, photos) == (["a.jpg", "data/d.jpg", "sub/b.jpg", "sub/deep/c.jpg"], 0)
    assert names(photos / "data", photos) == (["data/d.jpg"], 0)


@pytest.mark.usefixtures("as_job")
def test_outputs_in_a_bucket(object_server: ObjectServer, tmp_path: Path) -> None:
    bucket = object_server.make_bucket("images")
    written = wrote(tmp_path / "labels")
    files = {path.relative_to(tmp_path): path.read_bytes() for path in written.rglob("*") if path.is_file()}
    table = (written / "data/images.parquet").read_bytes()
    object_server.put(
        bucket,
        {f"p/sub/{name}": content for name, content in files.items()}
        | {"p/a.jpg": b"a", "p/z/data/t.parquet": table, "p/sub/b.jpg": b"b"},
    )

    def listed(uri: str) -> tuple[list[str], int]:
        opened = open_source(SourceConfig(uri=f"s3://{bucket}/{uri}", endpoint_url=object_server.endpoint))
        uris = planned(opened)["image_uri"].to_pylist()
        return [item.removeprefix(f"s3://{bucket}/") for item in uris], opened.listing.skipped[OUTPUT]

    assert listed("p") == (["p/a.jpg", "p/sub/b.jpg", "p/z/data/t.parquet#0"], 1)
    assert listed("p/**/*") == (["p/a.jpg", "p/sub/b.jpg", "p/z/data/t.parquet#0"], 1)
    assert listed("p/**/*.parquet") == (["p/z/data/t.parquet#0"], 1)
    assert listed("p/sub/labels") == ([], 1)
    with pytest.raises(SourceError, match="which is an output of cvbatch"):
        listed("p/sub/labels/data/")
