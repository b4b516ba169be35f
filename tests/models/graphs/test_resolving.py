"""What is read from a file, what must be said of it, and what is said where something does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError, UsageError
from cvbatch.images.letterbox import Letterbox
from cvbatch.images.preprocess import View
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.models.onnx.opening import parse_onnx_file
from cvbatch.models.onnx.work import estimate_gflops
from cvbatch.models.resolve import resolve_models
from cvbatch.models.spec import ModelSpec
from tests.rigs.graphs import write_constant_graph

UNIT = {"preprocess": "unit"}
ULTRALYTICS = {
    "stride": "32",
    "task": "detect",
    "imgsz": "[64, 96]",
    "names": "{0: 'person', 1: 'bicycle'}",
    "license": "AGPL-3.0 License (https://ultralytics.com/license)",
}


def numbers(*shape: int) -> npt.NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def resolve(path: Path | str, **options: Any) -> ModelSpec:
    (spec,) = resolve_models([ModelConfig.model_validate({"model": f"onnx:{path}", **options})])
    return spec


def classifier(path: Path, classes: int = 3, **options: Any) -> Path:
    return write_constant_graph(path, {"probs": numbers(1, classes)}, **options)


def test_what_ultralytics_writes_is_enough(tmp_path: Path) -> None:
    outputs = {"output0": numbers(1, 6, 100)}
    path = write_constant_graph(
        tmp_path / "yolo.onnx", outputs, shape=("batch", 3, "height", "width"), metadata=ULTRALYTICS
    )
    spec = resolve(path)
    letterbox = Letterbox(size=(64, 96), centred=True, fill=(114, 114, 114), stride=32)
    assert spec.view == View(letterbox=letterbox, interpolation="linear"), "wide images need no square"
    assert (spec.task, spec.categories) == ("detection", ("person", "bicycle"))
    assert spec.licence.startswith("AGPL-3.0")
    reading = GraphReading.from_options(spec.options)
    assert (reading.head, reading.classes, reading.overlap, reading.batch) == ("yolo", 2, 0.7, None)
    assert not spec.masks


@pytest.mark.parametrize(
    ("metadata", "outputs", "head"),
    [
        ({}, {"output0": numbers(1, 6, 100)}, "yolo"),
        ({"end2end": "True"}, {"output0": numbers(1, 30, 6)}, "rows"),
        ({"args": "{'batch': 1, 'nms': True}"}, {"output0": numbers(1, 30, 6)}, "rows"),
        ({"task": "detect"}, {"output0": numbers(1, 1300, 7)}, "yolov5"),
        ({"description": "Ultralytics rtdetr-l model"}, {"output0": numbers(1, 300, 6)}, "yolo"),
        ({"task": "segment"}, {"output0": numbers(1, 38, 100), "output1": numbers(1, 32, 16, 16)}, "yolo"),
    ],
)
def test_heads_of_ultralytics(metadata: Any, outputs: Any, head: str, tmp_path: Path) -> None:
    path = write_constant_graph(tmp_path / "yolo.onnx", outputs, metadata=ULTRALYTICS | metadata)
    spec = resolve(path)
    assert GraphReading.from_options(spec.options).head == head
    assert spec.masks == ("output1" in outputs)


def test_a_classifier_of_ultralytics(tmp_path: Path) -> None:
    metadata = ULTRALYTICS | {"task": "classify", "imgsz": "[64, 64]"}
    path = classifier(tmp_path / "cls.onnx", 2, shape=(1, 3, "h", "w"), metadata=metadata, last="Softmax")
    spec = resolve(path)
    assert spec.view == View(resize=64, crop=(64, 64))
    reading = GraphReading.from_options(spec.options)
    assert (reading.scores, reading.batch, reading.mean) == ("probabilities", 1, (0.0, 0.0, 0.0))


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid", "Identity"])
def test_logits_are_told_from_probabilities_by_the_last_operation(last: str, tmp_path: Path) -> None:
    spec = resolve(classifier(tmp_path / "a.onnx", last=last), categories=["a", "b", "c"], options=UNIT)
    assert spec.options["scores"] == ("softmax" if last == "Identity" else "probabilities")
    said = resolve(tmp_path / "a.onnx", categories=["a", "b", "c"], options=UNIT | {"scores": "logits"})
    assert said.options["scores"] == "softmax"


def test_the_job_counts_more_than_the_yaml_file_and_that_more_than_the_exporter(tmp_path: Path) -> None:
    path = write_constant_graph(tmp_path / "m.onnx", {"output0": numbers(1, 6, 100)}, metadata=ULTRALYTICS)
    (tmp_path / "m.yaml").write_text("categories: [one, two]\nfill: [1, 2, 3]\nlicence: mine\noverlap: 0.6\n")
    spec = resolve(path, options={"fill": [0, 0, 9], "fit": "letterbox-top-left"})
    assert spec.categories == ("one", "two")
    assert spec.licence == "mine"
    assert spec.view.letterbox == Letterbox(size=(64, 64), fill=(0, 0, 9))
    assert spec.options["overlap"] == 0.6
    assert resolve(path, categories=["x", "y"]).categories == ("x", "y")


def test_proportions_are_kept_within_bounds(tmp_path: Path) -> None:
    outputs = {"pred_boxes": numbers(1, 9, 4), "logits": numbers(1, 9, 3)}
    path = write_constant_graph(tmp_path / "detr.onnx", outputs, shape=("b", 3, "h", "w"))
    with pytest.raises(ModelError, match="takes images of any size: give size:"):
        resolve(path, categories=["a", "b"])
    keys = {"fit": "keep", "resize": 800, "longer": 1333}
    spec = resolve(path, categories=["a", "b"], options=keys)
    assert spec.view.letterbox == Letterbox(shorter=800, longer=1333, rounding="shorter_first")
    assert (spec.options["scores"], spec.options["last_is_background"]) == ("softmax", True)
    assert resolve(path, categories=["a", "b", "c"], options=keys).options["scores"] == "sigmoid"


def test_names_of_classes_in_a_file_beside_the_yaml_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("task: classification\npreprocess: imagenet\ncategories: names.txt\n")
    (tmp_path / "names.txt").write_text("cat\ndog\nowl\n")
    spec = resolve(classifier(tmp_path / "a.onnx"))
    assert spec.categories == ("cat", "dog", "owl")
    assert spec.view == View(resize=73, crop=(64, 64))


@pytest.mark.parametrize(
    "text",
    ["{0: 'a', 1: 'b', 2: 'c'}", '{"0": "a", "1": "b", "2": "c"}', "['a', 'b', 'c']", '["a", "b", "c"]', "a,b,c"],
)
def test_names_of_classes_in_the_metadata(text: str, tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx", metadata={"class_names": text})
    assert resolve(path, options=UNIT).categories == ("a", "b", "c")


@pytest.mark.parametrize("name", ["imagenet-1k", "coco-80"])
def test_known_sets_of_categories(name: str, tmp_path: Path) -> None:
    classes = {"imagenet-1k": 1000, "coco-80": 80}[name]
    spec = resolve(classifier(tmp_path / "a.onnx", classes), categories=name, options=UNIT)
    assert spec.label_map == name
    assert len(spec.categories) == classes


def test_weights_in_a_file_of_their_own_become_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    model = onnx.load(str(classifier(tmp_path / "whole.onnx", 300)))
    path = tmp_path / "split.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="split.data", size_threshold=16)
    spec = resolve(path, categories=list(map(str, range(300))), options=UNIT)
    assert str(tmp_path / "cache") in str(spec.weights_path)
    assert onnx.load(str(spec.weights_path), load_external_data=False).graph.initializer[-2].data_location == 0
    again = resolve(path, categories=list(map(str, range(300))), options=UNIT)
    assert again == spec
    (tmp_path / "split.data").unlink()
    with pytest.raises(ModelError, match=r"split\.onnx: its weights are in a file of their own, split\.data"):
        resolve(path, categories=list(map(str, range(300))), options=UNIT)


def test_work_is_counted_as_for_other_models(tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [16, 3, 3, 3], np.zeros(432, np.float32))
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    onnx.save(helper.make_model(helper.make_graph([node], "g", [image], [output], [weight])), str(tmp_path / "c.onnx"))
    proto = parse_onnx_file(tmp_path / "c.onnx", "c.onnx")
    assert estimate_gflops(proto, "x", [1, 3, 10, 20]) == pytest.approx(10 * 20 * 16 * 27 / 1e9)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "unknown outputs": (
        {"strange": numbers(1, 17, 33, 2, 2)},
        {"task": "detection", "categories": ["a"], "options": UNIT},
        r"outputs are not known for detection: found strange \(\?, 17, 33, 2, 2\) float32; describe them with head:",
    ),
    "no preparation": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"]},
        r"does not say how its images are prepared: give preprocess: imagenet",
    ),
    "no task": ({"vector": numbers(1, 2)}, {"options": UNIT}, r"give task: classification.*vector \(\?, 2\) float32"),
    "wrong number of categories": (
        {"probs": numbers(1, 5)},
        {"categories": ["a", "b"], "options": UNIT},
        r"a\.onnx has 5 classes, and there are 2 categories",
    ),
    "no categories": (
        {"probs": numbers(1, 5)},
        {"task": "classification", "options": UNIT},
        r"a\.onnx does not name its 5 classes: give categories:",
    ),
    "unknown key": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": {"preproces": "unit"}},
        r"options of a\.onnx: preproces: unknown key; did you mean 'preprocess'\?",
    ),
    "wrong value": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": {"preprocess": "keras"}},
        r"options of a\.onnx: preprocess: expected 'imagenet'.*got 'keras'",
    ),
    "unknown name of an output": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": UNIT | {"outputs": {"scores": "logits"}}},
        r"outputs\.scores: there is no output 'logits': found probs",
    ),
    "a crop of a whole image": (
        {"scores": numbers(1, 2, 8, 8)},
        {"task": "segmentation", "categories": ["a", "b"], "options": UNIT | {"fit": "crop"}},
        r"fit: crop does not show a whole image to segmentation",
    ),
    "another size": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": UNIT | {"size": 32}},
        r"size: 32 × 32 does not fit its input, which is 64 × 64",
    ),
    "another layout": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": UNIT | {"layout": "nhwc"}},
        r"layout: nhwc does not fit its input images",
    ),
    "weights": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": UNIT, "weights": None},
        r"weights: a model of ONNX has its own",
    ),
    "an option of another task": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": UNIT, "score_threshold": 0.5},
        r"score_threshold: belongs to detection",
    ),
    "too many best": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": UNIT, "top_k": 3},
        r"expected top_k of at most its 2 categories, got 3",
    ),
    "another hash": (
        {"probs": numbers(1, 2)},
        {"categories": ["a", "b"], "options": UNIT, "sha256": "00ff"},
        r"a\.onnx: expected sha256 00ff, got",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_said_in_one_line(case: str, tmp_path: Path) -> None:
    outputs, options, message = WRONG[case]
    path = write_constant_graph(tmp_path / "a.onnx", outputs)
    with pytest.raises(ModelError, match=message) as error:
        resolve(path, **options)
    assert "\n" not in str(error.value)


def test_a_detector_with_another_number_of_classes(tmp_path: Path) -> None:
    path = write_constant_graph(tmp_path / "a.onnx", {"output0": numbers(1, 6, 100)}, metadata=ULTRALYTICS)
    with pytest.raises(ModelError, match="has 2 classes, and there are 3 categories"):
        resolve(path, categories=["a", "b", "c"])


def test_a_task_of_ultralytics_that_does_not_exist_here(tmp_path: Path) -> None:
    path = write_constant_graph(
        tmp_path / "a.onnx", {"output0": numbers(1, 6, 100)}, metadata=ULTRALYTICS | {"task": "obb"}
    )
    with pytest.raises(
        ModelError,
        match="exported for the task 'obb': oriented boxes have no column, which holds upright ones: expected",
    ):
        resolve(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"not a graph", b"\x08\x07"])
def test_a_file_that_is_no_graph(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(ModelError, match=r"a\.onnx is not an ONNX file"):
        resolve(tmp_path / "a.onnx")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it is missing"):
        resolve(tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="it is a folder, not a file"):
        resolve(tmp_path)
    with pytest.raises(ModelError, match=r"expected onnx:FILE: onnx:a\.onnx"):
        resolve_models([ModelConfig(model="a.onnx")])
    with pytest.raises(ModelError, match="as onnx:FILE"):
        resolve_models([ModelConfig(model="onnx")])
    with pytest.raises(ModelError, match="expected a file on this machine or in a bucket"):
        resolve("https://example.org/a.onnx")


def test_an_opset_of_the_future(tmp_path: Path) -> None:
    model = onnx.load(str(classifier(tmp_path / "a.onnx")))
    model.opset_import[0].version = 99
    onnx.save(model, str(tmp_path / "a.onnx"))
    with pytest.raises(ModelError, match=r"onnxruntime .* cannot load it \(opset 99\).*smaller opset"):
        resolve(tmp_path / "a.onnx", categories=["a", "b", "c"], options=UNIT)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = classifier(tmp_path / "a.onnx")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UsageError, match=r"pip install 'cvbatch\[onnx\]'"):
        resolve(path, categories=["a", "b", "c"], options=UNIT)


def test_a_yaml_file_that_is_wrong(tmp_path: Path) -> None:
    path = classifier(tmp_path / "a.onnx")
    (tmp_path / "a.yaml").write_text("layout: nchw\n  x: [")
    with pytest.raises(ModelError, match=r"a\.yaml is not valid YAML"):
        resolve(path)
    (tmp_path / "a.yaml").write_text("- nchw")
    with pytest.raises(ModelError, match=r"a\.yaml: expected a mapping of keys"):
        resolve(path)
