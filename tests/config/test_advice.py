"""What messages advise can be done: each option that they name is there, and following the advice works."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import cvbatch
from cvbatch.cli import parser
from cvbatch.config.error_messages import known_keys_at
from cvbatch.config.job import Job, SourceConfig
from cvbatch.config.train_job import TrainJob
from cvbatch.errors import CvbatchError, ImageError, SourceError
from cvbatch.models.spec import rows_schema
from cvbatch.output.store import LocalStore
from cvbatch.planning.plan import make_plan
from cvbatch.sources import open_source
from cvbatch.sources.fetch.url_policy import HttpTarget
from cvbatch.storage.http_hosts import HttpOptions
from tests.samples import commit, job, planned_in, spec, started
from tests.sources.shards import kinds, planned, tar

ROOT = Path(cvbatch.__file__).parent
OPTION = re.compile(r"\b(source|compute|output|models)\.([a-z_]+)((?:\.[a-z_]+)?)(?:(?:: |=)([a-z0-9]+))?")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
FOREIGN = {"--head"}
"""Options of other programs."""
TRAININGS = ("config/train_job.py", "engine/training_workers.py", "training/")
"""Where messages are about `cvbatch train`."""


def messages() -> Iterator[tuple[str, str]]:
    """All text in the package that is no docstring, with where it stands; `{}` is what comes in when it is said."""
    for path in sorted(ROOT.rglob("*.py")):
        tree = ast.parse(path.read_text())
        quiet = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in quiet | inner:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                yield f"{path.relative_to(ROOT)}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node.value


def flags() -> set[str]:
    found, parsers = set[str](), [parser.argument_parser()]
    while parsers:
        for action in parsers.pop()._actions:
            found.update(action.option_strings)
            if isinstance(action, argparse._SubParsersAction):
                parsers.extend(action.choices.values())
    return found


def test_every_option_that_a_message_names_exists() -> None:
    known, seen = flags() | FOREIGN, 0
    for where, text in messages():
        if len(text.split()) < 2:  # a name, not a message
            continue
        for flag in FLAG.findall(text):
            assert flag in known, f"{where}: {flag}"
        for section, key, below, value in OPTION.findall(text):
            place = (section,) if section != "models" else (section, 0)
            job_type = TrainJob if where.startswith(TRAININGS) else Job
            assert key in known_keys_at(place, job_type), f"{where}: {section}.{key}"
            assert not below or below[1:] in known_keys_at((*place, key), job_type), f"{where}: {section}.{key}{below}"
            seen += 1
            if value and section == "source":
                SourceConfig.model_validate({"uri": "x", key: yaml.safe_load(value)})
    assert seen > 30, "the messages are found"


def said(uri: Path | str, **options: Any) -> str:
    """What is said when a source is opened and planned, as one that has to be named in a job."""
    with pytest.raises(SourceError) as caught:
        planned(open_source(SourceConfig(uri=str(uri), **options)))
    return str(caught.value)


def renamed(message: str) -> dict[str, str]:
    """The `source.rename` that a message proposes."""
    found = re.search(r"source\.rename: (\{.*?\})", message)
    assert found is not None
    names: dict[str, str] = yaml.safe_load(found[1])
    return names


def test_names_of_ours(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("uri,status,_x,y\na.jpg,1,2,3\n")
    names = renamed(said(tmp_path / "m.csv"))
    table = planned(open_source(SourceConfig(uri=str(tmp_path / "m.csv"), rename=names)))
    assert table.select(["my_status", "my_x", "y"]).to_pylist() == [{"my_status": "1", "my_x": "2", "y": "3"}]


def test_names_of_a_models_columns(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("uri,classification_label\na.jpg,1\n")

    def schema(**options: Any) -> pa.Schema:
        return rows_schema(
            [spec()], extra_columns=open_source(SourceConfig(uri=str(tmp_path / "m.csv"), **options)).extra_columns
        )

    with pytest.raises(SourceError) as caught:
        schema()
    assert "my_classification_label" in schema(rename=renamed(str(caught.value))).names


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("uri,x,x\na.jpg,1,2\n")
    message = said(tmp_path / "m.csv")
    assert "rename one of them in the file, or drop all extra columns with source.metadata: off" in message
    assert planned(open_source(SourceConfig(uri=str(tmp_path / "m.csv"), metadata="off"))).num_rows == 1
    (tmp_path / "m.csv").write_text("uri,x,x2\na.jpg,1,2\n")
    assert planned(open_source(SourceConfig(uri=str(tmp_path / "m.csv")))).num_rows == 1
    tables = pa.Table.from_arrays([pa.array([b"image"]), pa.array([1]), pa.array([2])], names=["image", "x", "x"])
    pq.write_table(tables, tmp_path / "t.parquet")
    assert "source.metadata: off" in said(tmp_path / "t.parquet")
    assert kinds(planned(open_source(SourceConfig(uri=str(tmp_path / "t.parquet"), metadata="off")))) == [b"image"]


def test_a_manifest_whose_column_has_another_name(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("URL\na.jpg\n")
    assert "got URL; source.uri_column names another one" in said(tmp_path / "m.csv")
    assert planned(open_source(SourceConfig(uri=str(tmp_path / "m.csv"), uri_column="URL"))).num_rows == 1


def test_several_columns_that_could_be_the_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"front": [b"f"], "back": [b"b"]}), tmp_path / "t.parquet")
    opened = open_source(SourceConfig(uri=str(tmp_path / "t.parquet")))
    assert kinds(planned(opened)) == ["NoImageColumn"]
    assert "set source.image_column" in opened.listing.unreadable[str(tmp_path / "t.parquet")]
    assert kinds(planned(open_source(SourceConfig(uri=str(tmp_path / "t.parquet"), image_column="back")))) == [b"b"]


def test_files_of_other_suffixes(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.img").write_bytes(b"a")
    asked = job(tmp_path / "photos", tmp_path / "out")
    with pytest.raises(SourceError, match=r"source\.extensions: any takes all"):
        make_plan(LocalStore(str(tmp_path / "out")), asked, [spec()], open_source(asked.source))
    assert "to read it as an image, set source.extensions: any" in said(tmp_path / "photos/a.img")
    for uri in ("photos", "photos/a.img"):
        assert kinds(planned(open_source(SourceConfig(uri=str(tmp_path / uri), extensions="any")))) == [b"a"]


def test_an_archive_without_images(tmp_path: Path) -> None:
    tar(tmp_path / "x.tar", {"a.img": b"a"})
    (tmp_path / "b.jpg").write_bytes(b"b")
    opened = open_source(SourceConfig(uri=str(tmp_path)))
    assert kinds(planned(opened)) == [b"b", "NoImages"]
    message = opened.listing.unreadable[str(tmp_path / "x.tar")]
    assert "skip it with source.exclude, or list the suffixes of its images in source.extensions" in message
    assert kinds(planned(open_source(SourceConfig(uri=str(tmp_path), exclude=("x.tar",))))) == [b"b"]
    assert kinds(planned(open_source(SourceConfig(uri=str(tmp_path), extensions=("img", "jpg"))))) == [b"b", b"a"]


def test_images_of_an_earlier_output(tmp_path: Path) -> None:
    store = LocalStore(str(tmp_path / "out"))
    plan = planned_in(store, tmp_path, 2)
    (path,) = (file.path for file in commit(started(store, plan.rows), 0, 2))
    assert "name the images, or a manifest with source.uri_column" in said(tmp_path / "out/data")
    assert "source.uri_column names another one" in said(tmp_path / "out" / path)
    names = renamed(said(tmp_path / "out" / path, uri_column="image_uri"))
    table = planned(open_source(SourceConfig(uri=str(tmp_path / "out" / path), uri_column="image_uri", rename=names)))
    assert table["my_status"].to_pylist() == ["ok", "ok"]


@pytest.mark.parametrize("url", ["http://example.org/a.jpg", "https://example.org:8443/a.jpg"])
def test_hosts_that_are_not_listed(url: str) -> None:
    with pytest.raises(ImageError) as caught:
        HttpTarget.parse_url(url).check_host(HttpOptions())
    advice = re.search(r"such as (http_hosts: \[.*\])", str(caught.value))
    assert advice is not None
    HttpTarget.parse_url(url).check_host(SourceConfig(uri="m.csv", **yaml.safe_load(advice[1])).fetch_options.http)


def test_a_glob_that_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).touch()
    assert parser.main(["run", "--source", "a.jpg", "b.jpg", "c.jpg"]) == CvbatchError.exit_code + 1
    advice = re.search(r"--source '(\S+)'", capsys.readouterr().err)
    assert advice is not None
    assert planned(open_source(SourceConfig(uri=advice[1]))).num_rows == 3


def test_sources_of_two_kinds(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "m.csv").write_text("uri\na.jpg\n")
    uris = (str(tmp_path / "a.jpg"), str(tmp_path / "m.csv"))
    with pytest.raises(SourceError, match="give each kind a run and an output of its own"):
        open_source(SourceConfig(uri=uris))
    assert [planned(open_source(SourceConfig(uri=uri))).num_rows for uri in uris] == [1, 1]
