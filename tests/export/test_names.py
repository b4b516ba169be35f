"""Images are named by their path below the source, and differently where each gets a file of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cvbatch.export.names import _common_root, find_names, split_name
from cvbatch.results.committed import open_output
from tests.export.runs import BOXES, box_columns, make_run


@pytest.mark.parametrize(
    ("sources", "uris", "root"),
    [
        (["/data/photos"], ["/data/photos/2024/a.jpg", "/data/photos/2024/b.jpg"], "/data/photos/"),
        (["/data/photos"], ["/data/photos2/a.jpg", "/data/photos2/b.jpg"], "/data/photos2/"),
        (["/data/list.csv"], ["/data/a/x.jpg", "/data/b/x.jpg"], "/data/"),
        (["/data/a", "/data/b"], ["/data/a/x.jpg", "/data/b/x.jpg"], "/data/"),
        (["/data/a.tar"], ["/data/a.tar#in/x.jpg", "/data/a.tar#in/y.jpg"], "/data/a.tar#"),
        (["s3://photos/2024/"], ["s3://photos/2024/a.jpg"], "s3://photos/2024/"),
        (["/data/list.csv"], ["https://a.example.org/x.jpg", "s3://b/y.jpg"], ""),
        (["/data/list.csv"], ["/data/a.jpg"], "/data/"),
    ],
)
def test_the_root_is_the_source_or_what_all_share(sources: list[str], uris: list[str], root: str) -> None:
    assert _common_root(sources, min(uris), max(uris)) == root


def names_of(tmp_path: Path, names: list[str], *, unique: bool) -> list[str]:
    output = make_run(tmp_path, (BOXES, box_columns([[]] * len(names))), names=names)
    opened = open_output(output)
    uris = pa.array([f"{tmp_path}/photos/{name}" for name in names])
    found: list[str] = find_names(opened, unique_stems=unique).of_images(uris, np.arange(len(names))).to_pylist()
    return found


def test_names_that_differ_in_the_extension_or_in_case_get_their_row_id(tmp_path: Path) -> None:
    names = ["a/x.jpg", "a/x.png", "a/X.jpg", "b/x.jpg", "b.d/x", "Straße 1.jpg"]
    assert names_of(tmp_path / "1", names, unique=False) == names
    expected = ["a/x-0.jpg", "a/x-1.png", "a/X-2.jpg", "b/x.jpg", "b.d/x", "Straße 1.jpg"]
    assert names_of(tmp_path / "2", names, unique=True) == expected


def test_a_name_that_ends_with_a_number_does_not_meet_one_that_gets_its_row_id(tmp_path: Path) -> None:
    names = ["x.jpg", "x-0.jpg", "x.png", "y-0.jpg"]
    assert names_of(tmp_path, names, unique=True) == ["x-0.jpg", "x-0-1.jpg", "x-2.png", "y-0.jpg"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a.parquet#17", "a.parquet#17"), ("b.d/x", "b.d/x"), ("a.tar#in/x.y.jpg", "a.tar#in/x.y")],
)
def test_rows_of_several_tables_keep_their_own_stems(name: str, stem: str) -> None:
    assert split_name(name) == (stem, name.removeprefix(stem))


def test_names_of_files_lead_nowhere_else_and_fit_a_file_system(tmp_path: Path) -> None:
    names = ["../../x.jpg", "a//b.jpg", "ü" * 300 + ".jpg"]
    first, second, third = names_of(tmp_path, names, unique=True)
    assert (first, second) == ("_/_/x.jpg", "a/_/b.jpg")
    assert third.endswith("-2.jpg")
    assert len(third.encode()) < 255
