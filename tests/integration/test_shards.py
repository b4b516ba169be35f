"""A whole run over shards on a real Ray head: bad members, metadata, and an update of one shard."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import cvbatch as api
from tests.conftest import Cvbatch, make_photo
from tests.integration.test_run import MODELS
from tests.sources.shards import saved, tar, zipped

JOB = """
source: {uri: shards}
models:
  - {model: "python:red:Red"}
output: {uri: out}
"""


def test_images_in_shards(tmp_path: Path, cvbatch_on_head: Cvbatch) -> None:
    (tmp_path / "red.py").write_text(MODELS)
    (tmp_path / "job.yaml").write_text(JOB)
    (tmp_path / "shards").mkdir()
    photos = [make_photo(tmp_path / f"{number}.jpg", seed=number).read_bytes() for number in range(6)]
    samples = {"0.cls": b"3", "0.jpg": photos[0], "../1.jpg": photos[1], "2.cls": b"5", "2.jpg": photos[2]}
    tar(tmp_path / "shards/a.tar", samples)
    tar(tmp_path / "shards/b.tar.gz", {"3.jpg": photos[3], "text.jpg": b"no image"})
    zipped(tmp_path / "shards/c.zip", {"4.jpg": photos[4], "read.me": b""})

    answer = cvbatch_on_head("run", "job.yaml", "--json", "--set", "compute.unit_rows=2")

    assert answer.code == 0, answer.err
    assert (answer.json["rows"], answer.json["ok"], answer.json["skipped"]) == (6, 4, {".me": 1})
    frame = api.read(str(tmp_path / "out"))
    shards = [f"{tmp_path}/shards/{name}" for name in ("a.tar#0.jpg", "a.tar#../1.jpg", "a.tar#2.jpg")]
    assert frame["image_uri"].tolist()[:3] == shards
    assert frame["error_type"].dropna().tolist() == ["UnsafeMember", "UnknownFormat"]
    assert frame["cls"].dropna().tolist() == [3, 5]
    assert frame.loc[frame["status"] == "ok", "classification_label"].isin(["dark", "red"]).all()

    zipped(tmp_path / "shards/c.zip", {"new.jpg": photos[5], "4.jpg": photos[4]})
    os.utime(tmp_path / "shards/a.tar")
    answer = cvbatch_on_head("run", "job.yaml", "--json", "--update")

    assert answer.code == 0, answer.err
    assert answer.json["rows_this_start"] == 2, "the new one, and the one that failed in a shard that was touched"
    assert api.read(str(tmp_path / "out"))["image_uri"].tolist()[6:] == [f"{tmp_path}/shards/c.zip#new.jpg"]
    assert cvbatch_on_head("verify", "out", "--deep", "--json").json["proven"] is True


@pytest.mark.slow
def test_a_dataset_on_disk(tmp_path: Path, cvbatch_on_head: Cvbatch) -> None:
    (tmp_path / "red.py").write_text(MODELS)
    (tmp_path / "job.yaml").write_text(JOB)
    photos = [make_photo(tmp_path / f"{number}.jpg", seed=number).read_bytes() for number in range(4)]
    saved(tmp_path / "dataset/train", photos[:2], photos[2:3])
    saved(tmp_path / "dataset/test", [photos[3], b"no image"])

    answer = cvbatch_on_head("run", "job.yaml", "--source", "dataset", "--json")

    assert answer.code == 0, answer.err
    frame = api.read(str(tmp_path / "out"))
    test, train = (f"{tmp_path}/dataset/{split}/data-0000" for split in ("test", "train"))
    assert frame["image_uri"].tolist() == [
        f"{test}0-of-00001.arrow#0",
        f"{test}0-of-00001.arrow#1",
        f"{train}0-of-00002.arrow#0",
        f"{train}0-of-00002.arrow#1",
        f"{train}1-of-00002.arrow#0",
    ]
    assert frame["label"].tolist() == [0, 1, 0, 1, 0]
    assert frame["status"].tolist() == ["ok", "error", "ok", "ok", "ok"]
