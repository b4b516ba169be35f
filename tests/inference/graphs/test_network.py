"""What a graph gives through the product: the same as its twin in torch, for every task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn
from torch.nn import functional

from cvbatch.config.job import ModelConfig
from cvbatch.errors import ModelError
from cvbatch.images.preprocess import View, apply_view
from cvbatch.inference.graphs.object_masks import paste_masks
from cvbatch.inference.onnx.session import OnnxSession
from cvbatch.inference.predictor import Predictor
from cvbatch.models.graphs.reading import GraphReading
from cvbatch.models.resolve import resolve_models
from cvbatch.tasks.masks import decode_mask
from cvbatch.testing import generate_images, predict
from tests.inference.graphs.exporting import export, resolve
from tests.rigs.graphs import write_constant_graph, write_operations

IMAGES = generate_images()
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def normalized(view: View, image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(apply_view(view, image))).float() / 255
    return ((pixels - MEAN) / STD).permute(2, 0, 1)[None]


class Small(nn.Module):
    """A classifier whose answers vary from image to image."""

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 5, stride=4), nn.Linear(8, classes)
        nn.init.normal_(self.second.weight, std=3)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.second(functional.relu(self.first(batch)).mean(dim=(2, 3)))
        return features


class ChannelsLast(Small):
    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return super().forward(batch.permute(0, 3, 1, 2))


NAMES = list("abcdefg")
IMAGENET = {"preprocess": "imagenet"}


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`Small` for any number of images."""
    return export(Small(), tmp_path_factory.mktemp("graphs") / "free.onnx")


@pytest.mark.parametrize("probable", [False, True])
def test_a_classifier_and_its_twin_agree(probable: bool, free: Path, tmp_path: Path) -> None:
    graph = onnx.load(str(free))
    if probable:
        logits = graph.graph.output[0].name
        graph.graph.node.append(helper.make_node("Softmax", [logits], ["probable"]))
        graph.graph.output[0].name = "probable"
    onnx.save(graph, str(tmp_path / "small.onnx"))
    spec = resolve(tmp_path / "small.onnx", categories=NAMES, options=IMAGENET, top_k=7)
    assert spec.task == "classification"
    columns = predict([spec], IMAGES)
    twin = Small().eval()
    with torch.no_grad():
        expected = [twin(normalized(spec.view, image)).softmax(dim=1)[0].numpy() for image in IMAGES]
    for row, scores in enumerate(expected):
        best = np.argsort(-scores)
        assert columns["classification_top_labels"][row] == [NAMES[label] for label in best]
        np.testing.assert_allclose(columns["classification_top_scores"][row], scores[best], atol=1e-5)
    assert len(set(columns["classification_label"])) > 1


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [1, 3])
def test_fixed_batches_give_the_same_as_any(count: int, threads: int, free: Path, tmp_path: Path) -> None:
    said: list[str] = []
    graph = onnx.load(str(free))
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = count
    path = tmp_path / "fixed.onnx"
    onnx.save(graph, str(path))
    config = ModelConfig.model_validate({"model": f"onnx:{path}", "categories": NAMES, "options": IMAGENET})
    (spec,) = resolve_models([config], report=said.append)
    assert any(f"takes {count} image" in text for text in said)
    other = resolve(free, categories=NAMES, options=IMAGENET)
    fixed, any_size = (predict([model], IMAGES, batch_size=8, threads=threads) for model in (spec, other))
    assert fixed["classification_label"] == any_size["classification_label"]
    np.testing.assert_allclose(fixed["classification_score"], any_size["classification_score"], atol=1e-6)


def test_channels_last_bgr_and_own_numbers(tmp_path: Path) -> None:
    path = export(ChannelsLast(), tmp_path / "keras.onnx", (2, 64, 64, 3))
    keys = {"channels": "bgr", "scale": 127.5, "mean": [1, 1.5, 1], "std": [1, 2, 3], "fit": "stretch"}
    spec = resolve(path, task="embedding", options=keys)
    assert spec.view == View(resize=(64, 64))
    assert spec.dimension == 7
    vectors = predict([spec], IMAGES)["embedding_vector"]
    twin = ChannelsLast().eval()
    for image, vector in zip(IMAGES, vectors, strict=True):
        pixels = apply_view(spec.view, image).astype(np.float32)[..., ::-1] / 127.5
        batch = torch.from_numpy((pixels - np.array([1, 1.5, 1])) / np.array([1, 2, 3])).float()[None]
        with torch.no_grad():
            np.testing.assert_allclose(vector, twin(batch)[0].numpy(), atol=1e-4)


def test_bytes_reach_a_graph_of_bytes_as_they_are(tmp_path: Path) -> None:
    operations = [("Cast", {"to": TensorProto.FLOAT}), ("ReduceMean", {"axes": [1, 2], "keepdims": 0})]
    path = tmp_path / "bytes.onnx"
    write_operations(path, operations, shape=("n", 32, 48, 3), dtype="uint8", rank=2)
    spec = resolve(path, task="embedding", options={"fit": "stretch"})
    vectors = predict([spec], IMAGES)["embedding_vector"]
    expected = [apply_view(View(resize=(32, 48)), image).mean(axis=(0, 1)) for image in IMAGES]
    np.testing.assert_allclose(vectors, expected, rtol=1e-5)


POOL = ("AveragePool", {"kernel_shape": [4, 4], "strides": [4, 4]})
"""Says for each pixel how strong the channels are, at a quarter of the size."""


def pixel_graph(path: Path, *operations: tuple[str, dict[str, Any]], rank: int = 4) -> Path:
    return write_operations(path, [POOL, *operations], shape=("n", 3, 64, 64), dtype="float32", rank=rank)


@pytest.mark.parametrize("last", [False, True])
def test_a_segmenter_and_its_twin_agree(last: bool, tmp_path: Path) -> None:
    path = pixel_graph(tmp_path / "pixels.onnx", *([("Transpose", {"perm": [0, 2, 3, 1]})] if last else []))
    spec = resolve(path, task="segmentation", categories=["red", "green", "blue"], options=IMAGENET)
    assert spec.view == View(resize=(64, 64))
    columns = predict([spec], IMAGES)
    for row, image in enumerate(IMAGES):
        scores = functional.avg_pool2d(normalized(spec.view, image), 4)
        size = (image.height, image.width)
        wide = functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)[0].argmax(dim=0)
        found = np.full(size, -1)
        for label, mask in zip(columns["segmentation_label_ids"][row], columns["segmentation_masks"][row], strict=True):
            found[decode_mask(mask, *size)] = label
        assert (found == wide.numpy()).mean() > 0.999


def test_a_class_map_is_scaled_to_the_original(tmp_path: Path) -> None:
    path = pixel_graph(tmp_path / "map.onnx", ("ArgMax", {"axis": 1, "keepdims": 0}), rank=3)
    spec = resolve(path, task="segmentation", categories=["red", "green", "blue"], options=IMAGENET)
    columns = predict([spec], IMAGES[:2])
    scores = functional.avg_pool2d(normalized(spec.view, IMAGES[0]), 4)[0].argmax(dim=0).numpy()
    shares = [float((scores == label).mean()) for label in columns["segmentation_label_ids"][0]]
    np.testing.assert_allclose(columns["segmentation_areas"][0], shares, atol=0.02)


@pytest.mark.parametrize("head", ["yolo", "rows"])
def test_masks_come_from_prototypes(head: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    prototypes = random.normal(0, 1, (4, 16, 16)).astype(np.float32)
    coefficients = random.normal(0, 1, (2, 4)).astype(np.float32)
    corners = np.array([[8, 20, 40, 44], [30, 18, 60, 40]], np.float32)
    table = np.zeros((2 if head == "rows" else 60, 4 + 2 + 4), np.float32)
    if head == "rows":
        table[:] = np.concatenate([corners, [[0.9, 0], [0.8, 1]], coefficients], axis=1)
    else:
        boxes = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
        table[:2] = np.concatenate([boxes, [[0.9, 0], [0, 0.8]], coefficients], axis=1)
    outputs = {"output0": (table if head == "rows" else table.T)[None], "output1": prototypes[None]}
    metadata = {"stride": "32", "names": "{0: 'cat', 1: 'dog'}", "task": "segment", "imgsz": "[64, 64]"}
    metadata["end2end"] = str(head == "rows")
    path = write_constant_graph(tmp_path / "seg.onnx", outputs, metadata=metadata)
    spec = resolve(path)
    assert spec.masks
    photo = Image.new("RGB", (200, 100))
    columns = predict([spec], [photo, photo])
    assert columns["detection_labels"][1] == ["cat", "dog"]
    logits = torch.from_numpy(np.einsum("nc,chw->nhw", coefficients, prototypes))
    in_photo = logits[:, 4:12]  # a photo twice as wide as high fills the middle of the frame
    wide = functional.interpolate(in_photo[None], size=(100, 200), mode="bilinear", align_corners=False)[0] > 0
    for row, box in enumerate(columns["detection_boxes"][1]):
        left, top, right, bottom = (int(np.ceil(side)) for side in box)
        expected = np.zeros((100, 200), np.bool_)
        expected[top:bottom, left:right] = wide[row, top:bottom, left:right].numpy()
        found = decode_mask(columns["detection_masks"][1][row], 100, 200)
        inner = np.s_[8:92, :]  # at the upper and lower edge the margin of the frame is interpolated, too
        assert (found[inner] == expected[inner]).all()
        assert found[:top].sum() == found[bottom:].sum() == 0


@pytest.mark.parametrize("logits", [True, False])
def test_masks_of_their_own(logits: bool, tmp_path: Path) -> None:
    """RF-DETR gives logits for its queries, and Mask R-CNN probabilities."""
    masks = np.array([[[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.0], [0.9, 0.9]]]], np.float32)
    outputs = {"dets": np.full((1, 2, 4), 0.5, np.float32), "labels": np.array([[[5, -5], [-5, 4]]], np.float32)}
    path = write_constant_graph(tmp_path / "seg.onnx", outputs | {"masks": 20 * masks - 10 if logits else masks})
    spec = resolve(path, task="detection", categories=["cat", "dog"])
    columns = predict([spec], [Image.new("RGB", (40, 20))])
    assert columns["detection_labels"] == [["cat", "dog"]]
    left, lower = (decode_mask(mask, 20, 40) for mask in columns["detection_masks"][0])
    assert left[:, :20].all()
    assert not left[:, 20:].any()
    assert lower[11:].all()
    assert not lower[:9].any()


def test_masks_of_the_whole_frame_need_no_boxes() -> None:
    logits = np.array([[[-1, 1], [-1, 1]]], np.float32)
    (mask,) = paste_masks(logits, None, View(resize=(8, 8)), (8, 8), (30, 20))
    inside = decode_mask(mask, 20, 30)
    assert inside[:, 15:].all()
    assert not inside[:, :15].any()


def test_numbers_that_are_none_are_errors_of_their_image(tmp_path: Path) -> None:
    table = np.full((1, 40, 6), np.nan, np.float32)
    path = write_constant_graph(tmp_path / "nan.onnx", {"output0": table})
    options = {"preprocess": "unit", "head": "rows"}
    spec = resolve(path, task="detection", categories=["a"], options=options)
    pixels = [apply_view(spec.view, IMAGES[0])]
    (error,) = Predictor([spec]).predict_views({spec.view: pixels}, [IMAGES[0].size]).errors
    assert error is not None
    assert error.type == "InvalidOutput"
    assert "finite scores" in error.message


@pytest.mark.parametrize("count", [None, 3])
def test_tensors_are_bound_where_they_lie(count: int | None, free: Path) -> None:
    reading = GraphReading.from_options(resolve(free, categories=NAMES, options=IMAGENET).options)
    path = str(resolve(free, categories=NAMES, options=IMAGENET).weights_path)
    session = OnnxSession(path, "free.onnx", replace(reading, batch=count), "cpu")
    batch = torch.randn(5, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (bound,), (copied,) = session.run(batch).values(), session.run(batch.numpy()).values()
    np.testing.assert_allclose(bound, copied, atol=1e-6)
    assert bound.shape == (5, 7)


def test_a_gpu_without_cuda_in_the_runtime_is_an_error(free: Path) -> None:
    spec = resolve(free, categories=NAMES, options=IMAGENET)
    with pytest.raises(ModelError, match="has no CUDA: pip install onnxruntime-gpu"):
        OnnxSession(str(spec.weights_path), spec.name, GraphReading.from_options(spec.options), "cuda:0")


def test_boxes_of_a_graph_that_asks_for_the_size_are_in_its_pixels(tmp_path: Path) -> None:
    """As RT-DETR exports itself: boxes are fractions times a second input."""
    path = write_constant_graph(tmp_path / "rtdetr.onnx", {"labels": np.array([[1]])})
    model = onnx.load(str(path))
    graph = model.graph
    graph.input.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["batch", 2]))
    graph.initializer.append(numpy_helper.from_array(np.array([[[0.25, 0.5, 0.75, 1]]], np.float32), "fractions"))
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "middle"))
    graph.node.append(helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT))
    graph.node.append(helper.make_node("Concat", ["sizes", "sizes"], ["four"], axis=1))
    graph.node.append(helper.make_node("Unsqueeze", ["four", "middle"], ["row"]))
    graph.node.append(helper.make_node("Mul", ["fractions", "row"], ["boxes"]))
    graph.node.append(helper.make_node("Sigmoid", ["labels_sum"], ["scores"]))
    graph.output.append(helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["batch", 1, 4]))
    graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1]))
    onnx.save(model, str(path))
    spec = resolve(path, task="detection", categories=["cat", "dog"], options={"preprocess": "unit"})
    assert spec.view == View(resize=(64, 64))
    columns = predict([spec], [Image.new("RGB", (200, 100))] * 2)
    assert columns["detection_labels"] == [["dog"], ["dog"]]
    np.testing.assert_allclose(columns["detection_boxes"][0], [[50, 50, 150, 100]], atol=1e-3)


@pytest.mark.parametrize("kind", ["scores", "coarse", "map"])
def test_label_maps_come_back_from_a_frame(kind: str, tmp_path: Path) -> None:
    """A wide image lies in the middle of its frame; the colour above and below is no part of the answer."""
    labels = np.zeros((64, 64), np.int64)
    labels[32:48] = 1
    labels[16:48, 32:] = 2
    if kind == "map":
        output = labels[None]
    else:
        step = 8 if kind == "coarse" else 1
        output = (labels[None, ::step, ::step] == np.arange(3)[:, None, None]).astype(np.float32)[None] * 9
    path = write_constant_graph(tmp_path / "areas.onnx", {"found": output}, shape=("batch", 3, 64, 64))
    options = {"preprocess": "unit", "fit": "letterbox"}
    spec = resolve(path, task="segmentation", categories=["a", "b", "c"], options=options)
    columns = predict([spec], [Image.new("RGB", (100, 50))])
    areas = dict(zip(columns["segmentation_label_ids"][0], columns["segmentation_areas"][0], strict=True))
    assert areas == pytest.approx({0: 0.25, 1: 0.25, 2: 0.5}, abs=0.1 if kind == "coarse" else 0.02)
