"""Classes are read from folders and from tables, on a disk and in a bucket."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from cvbatch.errors import UsageError
from cvbatch.storage.location import Location
from cvbatch.storage.options import StorageOptions
from cvbatch.truth.base import TruthOptions, read_truth
from cvbatch.truth.labels import LABEL_READERS, LabelTruth
from tests.rigs.objects import REGION, ObjectServer


def read(path: Path | str, **options: str) -> LabelTruth:
    truth = read_truth(Location.from_uri(str(path)), LABEL_READERS, TruthOptions(**options))
    assert isinstance(truth, LabelTruth)
    return truth


def labels_of(truth: LabelTruth) -> dict[str, str]:
    return {name: truth.categories[label] for name, label in zip(truth.image_names, truth.labels, strict=True)}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("cat/1.jpg", "dog/deep/1.JPEG", "dog/2.png", "dog/notes.txt", "3.jpg"):
        (tmp_path / "val" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "val" / name).touch()
    return tmp_path / "val"


def test_folders_are_classes(tree: Path) -> None:
    truth = read(tree)
    assert labels_of(truth) == {
        f"{tree}/cat/1.jpg": "cat",
        f"{tree}/dog/2.png": "dog",
        f"{tree}/dog/deep/1.JPEG": "dog",
    }
    assert truth.notes == (f"1 images lie in no folder of {tree}, so they have no class",)
    assert truth.label_counts == [1, 2]


def test_folders_of_a_bucket(object_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in object_server.admin.environment.items():
        monkeypatch.setenv(name, value)
    bucket = object_server.make_bucket()
    object_server.put(
        bucket, {"val/cat/1.jpg": b"", "val/dog/2.jpg": b"", "value/x.jpg": b"", "t.csv": b"image,y\n1.jpg,a\n"}
    )
    options = StorageOptions(endpoint_url=object_server.endpoint, region=REGION)
    for key, expected in {
        "val": {f"s3://{bucket}/val/cat/1.jpg": "cat", f"s3://{bucket}/val/dog/2.jpg": "dog"},
        "t.csv": {"1.jpg": "a"},
    }.items():
        truth = read_truth(Location.from_uri(f"s3://{bucket}/{key}", options), LABEL_READERS)
        assert isinstance(truth, LabelTruth)
        assert labels_of(truth) == expected


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "jsonl"])
def test_tables_have_a_column_of_images_and_one_of_classes(tmp_path: Path, suffix: str) -> None:
    frame = pd.DataFrame({"id": [7, 8, 9], "File_Name": ["a.jpg", "b.jpg", "c.jpg"], "label": ["NA", "été, ", ""]})
    path = tmp_path / f"labels.{suffix}"
    {
        "csv": lambda: frame.to_csv(path, index=False, encoding="utf-8-sig"),
        "tsv": lambda: frame.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: frame.to_parquet(path),
        "jsonl": lambda: frame.to_json(path, orient="records", lines=True, force_ascii=False),
    }[suffix]()
    truth = read(path)
    assert labels_of(truth) == {"a.jpg": "NA", "b.jpg": "été,"}
    assert truth.notes == (
        "images are in column 'File_Name', classes in 'label'",
        f"1 rows of {path} have no image or no class, and take no part",
    )


def test_columns_can_be_named_and_the_only_other_one_is_the_class(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,vet\n1.jpg,cat\n")
    assert labels_of(read(path)) == {"1.jpg": "cat"}
    path.write_text("image,photo,label,vet\nx,1.jpg,no,cat\n")
    assert labels_of(read(path, image_column="photo", label_column="vet")) == {"1.jpg": "cat"}


def test_numbers_are_classes_too(tmp_path: Path) -> None:
    pd.DataFrame({"path": ["a.jpg", "b.jpg"], "class": [3, 10]}).to_parquet(tmp_path / "t.parquet")
    assert labels_of(read(tmp_path / "t.parquet")) == {"a.jpg": "3", "b.jpg": "10"}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            "a,b,c\n1,2,3\n",
            {},
            r"expected a column of images, called for example 'image_uri'; got 'a', 'b', 'c'; name it",
        ),
        ("image,b,c\n1,2,3\n", {}, r"expected a column of labels, called for example 'label'.* with --label-column"),
        ("image,b\n1,2\n", {"label_column": "B"}, r"there is no column 'B'; there are .*b"),
        ("image,label\n1,a\n1,b\n", {}, r"expected each image once, got '1' twice"),
        ("", {}, r"expected a table with a column of images and one of classes; "),
        ("image,label\n", {}, r"expected a table of labels with images, got none"),
        ('image,label\n"1,a\n', {}, r"expected a table with a column of images and one of classes; "),
    ],
)
def test_wrong_tables_are_one_line(tmp_path: Path, content: str, options: dict[str, str], message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(content)
    with pytest.raises(UsageError, match=message) as raised:
        read(path, **options)
    assert "\n" not in str(raised.value)


def test_lists_are_no_classes(tmp_path: Path) -> None:
    pd.DataFrame({"image": ["a"], "label": [["x", "y"]]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="expected one text or number a row in column 'label', got list"):
        read(tmp_path / "t.parquet")


def test_what_is_no_truth_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"expected truth as one of a table of labels \(labels.csv.*, but it does not exist"
    ):
        read(tmp_path / "nothing")
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "1.jpg").touch()
    with pytest.raises(UsageError, match=r"expected images in folders named after classes.*got 1 images without one"):
        read(tmp_path / "flat")
    with pytest.raises(UsageError, match=r"labels.csv: expected a table"):
        read(tmp_path / "labels.csv")
