"""What is exported and comes back corrected is truth: nothing corrected gives AP 1."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import cvbatch
from cvbatch.cli.parser import main
from cvbatch.errors import OutputError, UsageError
from cvbatch.export.base import FormatOptions
from cvbatch.export.exporting import export_predictions
from cvbatch.export.importing import IMPORT_FORMATS, import_labels
from tests.export.runs import LABELS, MASKS, NAMES, make_run, mask_columns, random_mask

TASKS_FILE = "tasks-00000.json"


@pytest.fixture
def output(tmp_path: Path) -> str:
    masks = [
        [(label, 0.3 * label / 5 + 0.1, random_mask(label + 10 * image)) for label in (1, 3, 5)] for image in range(3)
    ]
    return make_run(tmp_path, (MASKS, mask_columns([*masks, []])), names=["a, b.jpg", "Größe.jpg", "c/d.jpg", "e.jpg"])


def accept_all(path: Path) -> Path:
    """Make annotations of the predictions, as Label Studio does when somebody submits them unchanged."""
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
    path.write_text(json.dumps(tasks))
    return path


def round_trip(tmp_path: Path, output: str, name: str, options: FormatOptions | None) -> Path:
    """Export and import again; the truth."""
    exported, truth = tmp_path / "exported", tmp_path / "truth.parquet"
    export_predictions(output, name, str(exported), options=options)
    if name == "label-studio":
        exported = accept_all(exported / TASKS_FILE)
    import_labels(str(exported), name, str(truth))
    return truth


def average_precisions(output: str, truth: Path) -> list[float]:
    """AP of boxes, and of masks if the truth has them."""
    return [part.values["AP"] for part in cvbatch.evaluate(output, str(truth)).metrics.values()]


@pytest.mark.parametrize(
    ("name", "masks"),
    [
        ("coco", "rle"),
        ("coco", "polygons"),
        ("cvat", "rle"),
        ("cvat", "polygons"),
        ("label-studio", "rle"),
        ("label-studio", "polygons"),
        ("label-studio", "none"),
        ("yolo", "polygons"),
        ("yolo", "none"),
    ],
)
def test_what_comes_back_uncorrected_is_right(tmp_path: Path, output: str, name: str, masks: str) -> None:
    truth = round_trip(tmp_path, output, name, FormatOptions(masks=masks))
    values = average_precisions(output, truth)
    assert len(values) == (1 if masks == "none" else 2)
    assert np.allclose(values, 1)


def test_an_export_is_truth_without_an_import(tmp_path: Path, output: str) -> None:
    export_predictions(output, "coco", str(tmp_path / "labels.json"))
    assert np.allclose(average_precisions(output, tmp_path / "labels.json"), 1)


def test_a_corrected_label_counts(tmp_path: Path, output: str) -> None:
    export_predictions(output, "coco", str(tmp_path / "labels.json"))
    content = json.loads((tmp_path / "labels.json").read_text())
    content["annotations"][0]["category_id"] = 3
    (tmp_path / "labels.json").write_text(json.dumps(content))
    report = import_labels(str(tmp_path / "labels.json"), "coco", str(tmp_path / "truth.parquet"))
    assert (report.images, report.objects, report.categories) == (4, 9, {"dog": 2, NAMES[3]: 4, "cat": 3})
    assert min(average_precisions(output, tmp_path / "truth.parquet")) < 1


def test_classes_come_back_from_tags(tmp_path: Path) -> None:
    columns = {"label": ["dog", NAMES[3]], "label_id": [1, 3], "score": [0.9, 0.4]}
    columns |= {"top_labels": [["dog"], [NAMES[3]]], "top_label_ids": [[1], [3]], "top_scores": [[0.9], [0.4]]}
    output = make_run(tmp_path, (LABELS, columns))
    truth = round_trip(tmp_path, output, "cvat", None)
    (metrics,) = cvbatch.evaluate(output, str(truth)).metrics.values()
    assert metrics.values["top-1"] == 1


def test_the_command(tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]) -> None:
    export_predictions(output, "cvat", str(tmp_path / "cvat"))
    command = ["import", str(tmp_path / "cvat"), "--format", "cvat", "--to", str(tmp_path / "truth.parquet")]
    assert main(command) == 0
    assert "4 images, 9 labels" in capsys.readouterr().out
    assert main(command) == 2
    assert "exists: expected a new file" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "cvat")
    assert main([*command[:-1], str(tmp_path / "other.parquet"), "--json"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_wrong_request_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no format 'coko'; there is coco"):
        import_labels("labels.json", "coko", str(tmp_path / "truth.parquet"))
    with pytest.raises(UsageError, match=r"expected a name that ends with .parquet"):
        import_labels("labels.json", "coco", str(tmp_path / "truth.json"))
    with pytest.raises((UsageError, OutputError), match="expected a file with truth"):
        import_labels(str(tmp_path / "no.json"), "coco", str(tmp_path / "truth.parquet"))


def test_each_format_has_a_reader() -> None:
    from importlib import import_module

    readers = [reader.partition(":") for reader in IMPORT_FORMATS.values()]
    assert all(callable(getattr(import_module(f"cvbatch.truth.{module}"), name)) for module, _, name in readers)
