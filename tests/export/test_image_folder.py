"""Class folders are read back by torchvision itself."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from torchvision.datasets import ImageFolder

from cvbatch.errors import UsageError
from cvbatch.export import image_folder
from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from cvbatch.export.image_folder import class_folders, safe_name
from tests.export.runs import LABELS, NAMES, jpeg_of, make_image_run

COLUMNS = {"label": [NAMES[3], NAMES[4], NAMES[3]], "label_id": [3, 4, 3], "score": [0.9, 0.8, 0.3]}


@pytest.mark.parametrize("images", ["symlink", "hardlink", "copy"])
def test_torchvision_reads_the_folders(tmp_path: Path, images: str) -> None:
    output = make_image_run(tmp_path, (LABELS, COLUMNS))
    to = tmp_path / "to"
    report = export_predictions(output, "image-folder", str(to), min_score=0.5, options=FormatOptions(images=images))
    assert report.notes == {"images without a label": 1}
    folder = ImageFolder(str(to))
    classes = {entry["folder"]: entry["label"] for entry in json.loads((to / "classes.json").read_text())}
    assert [classes[name] for name in folder.classes] == sorted([NAMES[3], NAMES[4]], key=safe_name)
    contents = {classes[folder.classes[label]]: Path(path).read_bytes() for path, label in folder.samples}
    assert contents == {NAMES[3]: jpeg_of(0), NAMES[4]: jpeg_of(20)}
    path = Path(folder.samples[0][0])
    assert (path.is_symlink(), path.stat().st_nlink) == (images == "symlink", 2 if images == "hardlink" else 1)


def test_images_of_one_name_do_not_replace_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = {"label": ["cat"] * 3, "label_id": [5] * 3, "score": [0.9] * 3}
    output = make_image_run(tmp_path, (LABELS, columns))
    to = tmp_path / "to"
    monkeypatch.setattr(image_folder, "_file_names", lambda batch: ["same.jpg"] * 3)
    export_predictions(output, "image-folder", str(to))
    assert sorted(os.listdir(to / "cat")) == ["same-1.jpg", "same-2.jpg", "same.jpg"]
    assert sorted(path.read_bytes() for path in (to / "cat").iterdir()) == sorted(jpeg_of(20 * row) for row in range(3))


def test_names_of_classes_become_safe_and_different() -> None:
    names = ["a/b", "..", "", "Cat", "cat", "犬, groß", "x" * 300, "x" * 299, "nul\0", "end.", "50%"]
    folders = class_folders(names)
    assert folders[:6] == ["a%2Fb", "%2E%2E", "%", "Cat", "cat (4)", "犬, groß"]
    assert folders[8:] == ["nul%00", "end%2E", "50%25"]
    assert len({folder.casefold() for folder in folders}) == len(names)
    assert max(len(folder.encode()) for folder in folders) <= 200


def test_a_wrong_way_of_images_is_one_line(tmp_path: Path) -> None:
    output = make_image_run(tmp_path, (LABELS, COLUMNS))
    with pytest.raises(UsageError, match="images: expected symlink, hardlink, copy, got bytes"):
        export_predictions(output, "image-folder", str(tmp_path / "to"), options=FormatOptions(images="bytes"))
