"""An invalid answer of a model is an error of its row, and of no other row."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from cvbatch.errors import RowError
from cvbatch.images.preprocess import View
from cvbatch.inference.python.protocol import Detections, Image, Size
from cvbatch.models.spec import ModelSpec
from cvbatch.tasks import TASKS
from cvbatch.tasks.detection import BoxAnswer
from cvbatch.testing import check_model
from tests.inference.networks import Light, grey, predictor
from tests.inference.python.test_network import Model, resolved, run

NAN, INF = float("nan"), float("inf")


def second_is(good: Any, bad: Any) -> Any:
    """Answers for two images, of which the second is another one."""

    def answer(images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        return [good if size == (100, 50) else bad for size in sizes]

    return answer


def found(**changes: Any) -> Detections:
    right = {"boxes": [[1, 2, 3, 4.5]], "label_ids": np.array([2]), "scores": [0.5]}
    return Detections(**{name: np.asarray(value) for name, value in (right | changes).items()})


@pytest.mark.parametrize(
    ("attributes", "good", "bad", "message"),
    [
        ({}, [0.1, 0.2, 0.7], [NAN, 0.5, 0.5], "got nan for label id 0"),
        ({}, [0.1, 0.2, 0.7], [0.5, INF, 0.5], "got inf for label id 1"),
        ({}, [0.1, 0.2, 0.7], [0.5, 7.25, 0.5], r"from 0 to 1, got 7\.25 for label id 1: .* `logits = True`"),
        ({}, [0.1, 0.2, 0.7], [0.5, 0.2, -0.25], r"from 0 to 1, got -0\.25 for label id 2"),
        ({"logits": True}, [1, 2, 7], [0.5, NAN, 0.5], "got nan"),
        ({"task": "embedding", "categories": (), "dimension": 2}, [3, 4], [INF, 1], "finite numbers .* got inf"),
        ({"task": "embedding", "categories": (), "dimension": 2}, [3, 4], [1e39, 1], "finite numbers .* got inf"),
        ({"task": "detection"}, found(), found(boxes=[[1, NAN, 3, 4]]), r"finite boxes, got \[1.0, nan, 3.0, 4.0\]"),
        ({"task": "detection"}, found(), found(boxes=[[3, 2, 1, 4]]), "x_min < x_max"),
        ({"task": "detection"}, found(), found(boxes=[[1, 2, 1, 4]]), "x_min < x_max"),
        ({"task": "detection"}, found(), found(boxes=[[1, 2, 900, 4]]), "far outside"),
        ({"task": "detection"}, found(), found(boxes=[[0.1, 0.2, 0.3, 1]]), "boxes in pixels, got .*: fractions"),
        ({"task": "detection"}, found(), found(scores=[NAN]), "scores from 0 to 1, got nan"),
        ({"task": "detection"}, found(), found(scores=[30.0]), "scores from 0 to 1, got 30"),
        ({"task": "detection"}, found(), found(label_ids=np.array([2.0])), "label_ids of whole numbers, got float64"),
        ({"task": "detection"}, found(), found(label_ids=np.array([-1])), "below 3, got -1"),
        ({"task": "detection"}, found(), {"boxes": [], "labels": [], "scores": []}, "expected Detections .* got {"),
        ({"task": "detection"}, found(), None, "expected Detections for each image, got None"),
        (
            {"task": "detection", "masks": True},
            found(masks=np.ones((1, 4, 4), np.bool_)),
            found(masks=np.full((1, 4, 4), 128, np.uint8)),
            "masks of booleans .* got uint8: ",
        ),
        (
            {"task": "detection", "keypoints": True},
            found(keypoints=np.ones((1, 2, 3))),
            found(keypoints=np.full((1, 2, 3), NAN)),
            "finite keypoints, got nan",
        ),
        ({"task": "segmentation"}, [[0, 2]], [[0, 3]], "below 3, got 3"),
        ({"task": "segmentation"}, [[0, 2]], [[0, -1]], "below 3, got -1"),
        ({"task": "segmentation"}, [[0, 2]], [[0, 0.5]], "label map of whole numbers, got float64"),
        ({"task": "segmentation"}, [[0, 2]], [[]], "with pixels"),
    ],
)
def test_only_the_image_without_an_answer_is_an_error(
    attributes: dict[str, Any], good: Any, bad: Any, message: str
) -> None:
    spec = resolved(answer=second_is(good, bad), **attributes)
    predictions = run(spec)
    first, second = predictions.errors
    assert first is None
    assert second is not None
    assert (second.stage, second.type, second.transient) == ("predict", "InvalidOutput", False)
    assert second.message.startswith(f"{spec.alias}: expected ")
    assert re.search(message, second.message)
    for column in predictions.columns.values():
        assert column[0].is_valid
        assert not column[1].is_valid


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "got None"),
        ({"scores": [1, 2]}, "expected a list or an array with an answer for each of"),
        ([["a", "b", "c"]] * 2, "scores of numbers, got <U1: "),
        ([[0.5, [0.5], 0.5]] * 2, "scores as an array of numbers, got"),
        ([[1j, 0, 0]] * 2, "scores of numbers, got complex128"),
    ],
)
def test_answers_that_are_not_numbers(answer: Any, message: str) -> None:
    spec = resolved(answer=lambda images, sizes: answer[: len(images)] if isinstance(answer, list) else answer)
    for error in run(spec).errors:
        assert error is not None
        assert error.type == "InvalidOutput"
        assert message in error.message


def test_declared_logits_become_probabilities() -> None:
    logits = [[1000.0, 999.0, -1000.0], [-3.0, 0.0, 2.0]]
    spec = resolved(logits=True, answer=lambda images, sizes: logits[: len(images)], categories=("a", "b", "c"))
    predictions = run(spec)
    assert predictions.errors == [None, None]
    expected = torch.tensor(logits).softmax(dim=1)[0].tolist()
    assert predictions.columns["classification_label"][0].as_py() == "a"
    np.testing.assert_allclose(
        predictions.columns["classification_top_scores"][0].as_py(), sorted(expected)[::-1], 1e-6
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_are_taken(dtype: torch.dtype) -> None:
    def answer(images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        return torch.tensor([[0.25, 0.0, 0.75]] * len(images), dtype=dtype, requires_grad=True)

    assert run(resolved(answer=answer)).columns["classification_score"].to_pylist() == [0.75, 0.75]


def test_a_model_that_would_end_the_process() -> None:
    def answer(images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        if list(sizes) != [(100, 50)]:
            sys.exit("too dark")
        return [[0.75, 0.0, 0.25] for _ in images]

    first, second = run(resolved(answer=answer)).errors
    assert first is None
    assert second is not None
    assert second.message == "classification: predict called sys.exit('too dark')"


def test_a_list_of_tensors_is_taken() -> None:
    def answer(images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        return [torch.tensor([0.75, 0.0, 0.25], dtype=torch.bfloat16, requires_grad=True) for _ in images]

    assert run(resolved(answer=answer)).columns["classification_score"].to_pylist() == [0.75, 0.75]


@pytest.mark.parametrize("nothing", [[], torch.zeros(0), np.zeros((0, 4))])
def test_an_image_without_objects(nothing: Any) -> None:
    def answer(images: Sequence[Image], sizes: Sequence[Size]) -> Any:
        return [Detections(boxes=nothing, label_ids=nothing, scores=nothing) for _ in images]

    predictions = run(resolved(task="detection", answer=answer))
    assert predictions.errors == [None, None]
    assert predictions.columns["detection_labels"].to_pylist() == [[], []]


def test_a_vector_that_float16_cannot_hold() -> None:
    spec = ModelSpec(
        alias="a", task="embedding", kind="python", name="", view=View(), dimension=2, dtype="float16", normalize=False
    )
    small, large = np.array([1, 2], np.float32), np.array([1, 70_000], np.float32)
    first, second = TASKS[spec.task].check_answers(spec, [small, large])
    assert first is small
    assert isinstance(second, RowError)
    assert second.message == "a: expected finite numbers that fit float16, got 70000 at position 1 of the vector"


def test_boxes_of_a_detector_without_an_area() -> None:
    spec = ModelSpec(alias="a", task="detection", kind="torchvision", name="", view=View(), categories=(None, "x"))
    one = BoxAnswer(boxes=np.array([[0, 0, 2, 2]]), label_ids=np.array([1]), scores=np.array([0.5]))
    flat = BoxAnswer(boxes=np.array([[0, 0, 2, 0]]), label_ids=np.array([1]), scores=np.array([0.5]))
    first, second = TASKS[spec.task].check_answers(spec, [one, flat])
    assert first is one
    assert isinstance(second, RowError)
    assert second.message == "a: expected boxes with an area, got [0, 0, 2, 0]"


def test_an_invalid_answer_causes_no_second_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Light(bright=lambda image: NAN if image[0, 0, 0] == 7 else 0.25)
    light = predictor(network, monkeypatch, batch_size=4)
    found = light.predict_views({View(resize=(8, 8)): grey(1, 7, 3)}, [(8, 8)] * 3)
    assert [error and error.type for error in found.errors] == [None, "InvalidOutput", None]
    assert network.batches == [3]


def test_check_model_reports_invalid_answers() -> None:
    def factory() -> Any:
        return Model(lambda images, sizes: [[0.5, NAN, 0.5]] * len(images))

    with pytest.raises(AssertionError, match=r"image 0: InvalidOutput: .* got nan for label id 1"):
        check_model(factory)


def test_unordered_boxes_are_found_by_check_model() -> None:
    def factory() -> Any:
        return Model(lambda images, sizes: [found(boxes=[[3, 2, 1, 4]])] * len(images), task="detection")

    with pytest.raises(AssertionError, match="x_min < x_max"):
        check_model(factory)
